//! The chart of a drill as numbers: where each line, band and marker of the timeline stands. The template draws it.

mod scale;

use durable_write_crds::drill::ObservationSource;
use durable_write_crds::probe::{Gap, ProbeSecond};

use crate::account::{Account, Details};
use crate::text::{length, time};

pub use scale::Tenths;
use scale::{LEFT, RIGHT, Scale, usual_step};

/// Where the lanes are, in pixels: top and height of each.
const BAND: (i64, i64) = (92, 22);
const ACCEPT: (i64, i64) = (138, 92);
const COMMIT: (i64, i64) = (254, 92);
const DEPTH: (i64, i64) = (370, 92);
/// Where markers begin and end.
const MARKERS: (i64, i64) = (14, 462);
/// Markers nearer to one another than this, in pixels, stand below one another.
const CROWDED: i64 = 20;
/// About the width of a character of a band's name, in pixels.
const CHARACTER: i64 = 8;
/// Rows for markers.
const MARKER_ROWS: usize = 4;

/// A timeline: four lanes above one axis of time.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Who took the writes, one band after the other.
    pub writers: Vec<Band>,
    /// Messages that SQS confirmed, commits and failures, and the queue's depth.
    pub lanes: Vec<Lane>,
    /// What happened, in the order of time.
    pub markers: Vec<Marker>,
    /// The gap: left edge and width.
    pub gap: Option<(Tenths, Tenths)>,
    /// Places and labels of the axis.
    pub ticks: Vec<(Tenths, String)>,
    /// The same in words, for those who cannot see it.
    pub description: String,
}

/// A time in which one instance took the writes.
#[derive(Clone, Debug)]
pub struct Band {
    /// The left edge.
    pub x: Tenths,
    /// The width.
    pub width: Tenths,
    /// The instance; none when nothing was committed.
    pub writer: Option<String>,
    /// Which of the colours: the first writer has 0.
    pub colour: usize,
}

/// One lane with its lines.
#[derive(Clone, Debug)]
pub struct Lane {
    /// What it shows.
    pub title: &'static str,
    /// The upper edge, in pixels.
    pub top: i64,
    /// The lower edge, in pixels.
    pub bottom: i64,
    /// The value at the upper edge.
    pub most: i64,
    /// Each line: its class in the style sheet, and its points.
    pub lines: Vec<(&'static str, String)>,
}

/// Something that happened at one time.
#[derive(Clone, Debug)]
pub struct Marker {
    /// Its number in the legend.
    pub number: usize,
    /// Where it stands.
    pub x: Tenths,
    /// Where its number stands, in pixels.
    pub y: i64,
    /// When it was.
    pub at: String,
    /// What it was.
    pub text: String,
}

/// The chart, or why there is none.
///
/// # Errors
/// There is no evidence, or it has no seconds of the probe: the text says so.
pub fn chart(account: &Account) -> Result<Chart, String> {
    let Some(details) = &account.evidence else {
        let why = if account.seal.is_sound() { account.seal.text() } else { "it is drawn from the evidence".to_owned() };
        return Err(format!("There is no timeline: {why}."));
    };
    let seconds = details.series.seconds.as_slice();
    let missing = details.series.missing.as_deref();
    let (Some(first), Some(last)) = (seconds.first(), seconds.last()) else {
        let why = missing.unwrap_or("the operator could not read the probe while it ran");
        return Err(format!("There is no timeline, as no seconds of the probe were kept: {}. No verdict depends on them.", why));
    };
    let gap = details.probe.as_ref().and_then(|probe| probe.gap.as_ref());
    let scale = Scale::new(first.at, last.at.saturating_add(1), details.claim.at.as_millisecond());
    Ok(Chart {
        writers: bands(seconds, &scale),
        lanes: lanes(seconds, &scale),
        markers: markers(account, details, &scale),
        gap: gap.and_then(|gap| shaded(gap, &scale)),
        ticks: scale.ticks(),
        description: describe(account, seconds, gap),
    })
}

impl Band {
    /// True when the instance's name can be read in it.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let characters = self.writer.as_ref().map_or(0, |writer| writer.chars().count());
        self.width >= Tenths::pixels(i64::try_from(characters).unwrap_or(i64::MAX / 100).saturating_mul(CHARACTER) + 2 * 6)
    }
}

impl Chart {
    /// The left edge of the lanes.
    #[must_use]
    pub fn left(&self) -> i64 {
        LEFT
    }

    /// The right edge of the lanes.
    #[must_use]
    pub fn right(&self) -> i64 {
        RIGHT
    }

    /// Top and height of the band of writers.
    #[must_use]
    pub fn band(&self) -> (i64, i64) {
        BAND
    }

    /// The lower end of markers.
    #[must_use]
    pub fn floor(&self) -> i64 {
        MARKERS.1
    }
}

fn bands<'a>(seconds: &'a [ProbeSecond], scale: &Scale) -> Vec<Band> {
    let mut names: Vec<&str> = Vec::new();
    let usual = usual_step(seconds);
    let near = |one: i64, other: i64| other.saturating_sub(one) <= usual.saturating_mul(2);
    let runs = seconds.chunk_by(|one, other| one.writer == other.writer && near(one.at, other.at));
    let next = runs.clone().skip(1).map(|run| run.first().map(|second| second.at)).chain([None]);
    let band = |(run, next): (&'a [ProbeSecond], Option<i64>)| {
        let (first, last) = (run.first()?, run.last()?);
        let writer = first.writer.as_deref();
        let colour = writer.map_or(0, |name| {
            names.iter().position(|other| *other == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            })
        });
        let end = next.filter(|next| near(last.at, *next)).unwrap_or(last.at.saturating_add(usual));
        let (x, end) = (scale.second(first.at), scale.second(end));
        Some(Band { x, width: end - x, writer: writer.map(str::to_owned), colour: colour % 3 })
    };
    runs.zip(next).filter_map(band).collect()
}

/// What a line shows of a second.
type Figure<'a> = &'a dyn Fn(&ProbeSecond) -> Option<i64>;

fn lanes(seconds: &[ProbeSecond], scale: &Scale) -> Vec<Lane> {
    let lane = |title, (top, height): (i64, i64), lines: &[(&'static str, Figure)]| {
        let values = lines.iter().flat_map(|(_, value)| seconds.iter().filter_map(value));
        let most = values.max().unwrap_or(0).max(1);
        let bottom = top + height;
        let points = |value: Figure| {
            let runs = scale.runs(seconds, value);
            runs.into_iter().map(move |run| {
                let points =
                    run.into_iter().map(|(at, value)| format!("{},{}", scale.middle(at), Scale::height(bottom, height, value, most)));
                points.collect::<Vec<_>>().join(" ")
            })
        };
        let lines = lines.iter().flat_map(|(class, value)| points(value).map(|points| (*class, points)).collect::<Vec<_>>()).collect();
        Lane { title, top, bottom, most, lines }
    };
    vec![
        lane("Accept side: messages a second", ACCEPT, &[("accepted", &|second| Some(second.accepted.into()))]),
        lane(
            "Commit side: direct writes a second, committed (line) and failed (dashed)",
            COMMIT,
            &[("committed", &|second| Some(second.committed.into())), ("failed", &|second| Some(second.failed.into()))],
        ),
        lane("Queue depth: messages", DEPTH, &[("depth", &|second| second.depth)]),
    ]
}

fn shaded(gap: &Gap, scale: &Scale) -> Option<(Tenths, Tenths)> {
    let from = scale.at(gap.last_good_began.as_millisecond());
    let to = gap.first_good_ended.map_or(scale.end(), |end| scale.at(end.as_millisecond()));
    (to > from).then(|| (from, to - from))
}

fn markers(account: &Account, details: &Details, scale: &Scale) -> Vec<Marker> {
    let mut seen = vec![(details.claim.at, "Claimed".to_owned())];
    seen.extend(details.call.began.map(|at| (at, "Failover called for".to_owned())));
    if let Some(gap) = details.probe.as_ref().and_then(|probe| probe.gap.as_ref()) {
        seen.push((gap.last_good_began, "Last good write before the gap began".to_owned()));
        let writer = gap.writer_after.as_deref().unwrap_or("an instance");
        seen.extend(gap.first_good_ended.map(|at| (at, format!("First good write after the gap ended, on {}", writer))));
    }
    let events = account.timeline.iter().filter(|step| step.source == ObservationSource::RDSEvent);
    seen.extend(events.map(|step| (step.at.0, format!("RDS event: {}", step.message))));
    seen.retain(|(at, _)| scale.shows(at.as_millisecond()));
    seen.sort();
    let mut rows: [Option<Tenths>; MARKER_ROWS] = [None; MARKER_ROWS];
    seen.into_iter()
        .zip(1..)
        .map(|((at, text), number)| {
            let x = scale.at(at.as_millisecond());
            let free = rows.iter().position(|last| last.is_none_or(|last| x - last >= Tenths::pixels(CROWDED))).unwrap_or(MARKER_ROWS - 1);
            if let Some(row) = rows.get_mut(free) {
                *row = Some(x);
            }
            let y = MARKERS.0 + CROWDED * i64::try_from(free).unwrap_or(0);
            Marker { number, x, y, at: time(at), text }
        })
        .collect()
}

/// What the chart shows, in words.
fn describe(account: &Account, seconds: &[ProbeSecond], gap: Option<&Gap>) -> String {
    let range = |values: &mut dyn Iterator<Item = i64>| {
        values.fold(None, |range: Option<(i64, i64)>, value| {
            Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        })
    };
    let accepted = range(&mut seconds.iter().map(|second| second.accepted.into())).unwrap_or_default();
    let committed = range(&mut seconds.iter().map(|second| second.committed.into())).unwrap_or_default();
    let mut text = format!(
        "{} seconds of the probe. The queue accepted {} to {} messages a second; {} to {} direct writes a second were committed.",
        seconds.len(),
        accepted.0,
        accepted.1,
        committed.0,
        committed.1
    );
    match range(&mut seconds.iter().filter_map(|second| second.depth)) {
        Some((_, most)) => text += &format!(" The queue held at most {most} messages."),
        None => text += " The queue's depth is not known.",
    }
    match gap {
        None => text += " No gap of writes was seen.",
        Some(gap) => {
            let after = gap.last_good_began.duration_since(account.evidence.as_ref().map_or(gap.last_good_began, |it| it.claim.at));
            let order = if after.is_negative() { "before" } else { "after" };
            let far = i64::try_from(after.abs().as_millis()).map_or_else(|_| String::new(), length);
            text += &format!(" The gap of writes began {far} {order} the claim");
            text += &gap
                .upper_milliseconds
                .map_or(", and writes did not come back.".to_owned(), |upper| format!(" and lasted at most {}.", length(upper)));
        }
    }
    text
}
