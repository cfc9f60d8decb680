//! How connections to the database are encrypted, and whom they trust.

use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// The public authorities (Mozilla's), PEM encoded.
#[must_use]
pub fn public_authorities() -> String {
    pem::encode_many(
        &TLS_SERVER_ROOT_CERTS.iter().map(|certificate| pem::Pem::new("CERTIFICATE", certificate.as_ref())).collect::<Vec<_>>(),
    )
}
