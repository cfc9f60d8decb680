//! As much of LDAP (RFC 4511) as `PostgreSQL` needs to have a password verified: a simple bind and its answer.

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const BIND_REQUEST: u8 = 0x60;
const UNBIND_REQUEST: u8 = 0x42;
const SIMPLE_PASSWORD: u8 = 0x80;
/// The answer to a bind, with no name and no message: the code of the result stands in its midst.
const BIND_RESPONSE: [u8; 4] = [0x61, 7, 0x0a, 1];
const SUCCESS: u8 = 0;
const INVALID_CREDENTIALS: u8 = 49;
/// The longest message that is read, in bytes.
const LONGEST: usize = 1 << 16;

/// Somebody who wants to be known.
pub(super) struct Bind {
    message: Vec<u8>,
    pub name: String,
    pub password: String,
}

/// Reads a bind; none when the client has had enough.
pub(super) async fn read(stream: &mut TcpStream) -> anyhow::Result<Option<Bind>> {
    let mut bytes = Vec::new();
    let message = loop {
        if let Some((SEQUENCE, message, _)) = element(&bytes) {
            break message;
        }
        if stream.read_buf(&mut bytes).await? == 0 || bytes.len() > LONGEST {
            return Ok(None);
        }
    };
    let (_, number, operation) = element(message).context("a message without a number")?;
    let bind = match element(operation) {
        Some((BIND_REQUEST, bind, _)) => bind,
        Some((UNBIND_REQUEST, ..)) => return Ok(None),
        _ => bail!("an operation that is no bind"),
    };
    let (_, _version, rest) = element(bind).context("a bind without a version")?;
    let (_, name, rest) = element(rest).context("a bind without a name")?;
    let Some((SIMPLE_PASSWORD, password, _)) = element(rest) else { bail!("a bind without a password") };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Some(Bind { message: number.to_vec(), name: text(name), password: text(password) }))
}

/// Answers a bind.
pub(super) async fn answer(stream: &mut TcpStream, bind: &Bind, good: bool) -> anyhow::Result<()> {
    let code = if good { SUCCESS } else { INVALID_CREDENTIALS };
    let number = [&[INTEGER, u8::try_from(bind.message.len())?], bind.message.as_slice()].concat();
    let message = [number.as_slice(), &BIND_RESPONSE, &[code, OCTETS, 0, OCTETS, 0]].concat();
    stream.write_all(&[&[SEQUENCE, u8::try_from(message.len())?], message.as_slice()].concat()).await?;
    Ok(())
}

/// The first element of BER: its tag, its content, and what follows it. None while it is not complete.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(*first - 0x80))?;
        (digits.iter().fold(0_usize, |length, digit| length.saturating_mul(256).saturating_add(usize::from(*digit))), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}
