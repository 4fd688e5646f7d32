//! The values of the headers that RTSP gives a meaning: `Transport`, `Session`, `Range`, `RTP-Info`.
//!
//! Not authentication, which is [`crate::auth`]. Called by the server's connections and by clients. Invariant: a value
//! that makes no sense is `None` or is left out, never an error that ends a connection.

pub mod transport;

use std::time::Duration;

/// `Session: 4f3a;timeout=60` (RFC 2326 section 12.37).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The session's id.
    pub id: String,
    /// How long the session lives without a sign of the client, if it is said.
    pub timeout: Option<Duration>,
}

impl Session {
    /// Reads the header.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        let id = parts.next().filter(|id| !id.is_empty())?.to_owned();
        let seconds = parts.find_map(|part| parameter(part, "timeout")?.parse().ok());
        Some(Self {
            id,
            timeout: seconds.map(Duration::from_secs),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn write(&self) -> String {
        match self.timeout {
            Some(timeout) => format!("{};timeout={}", self.id, timeout.as_secs()),
            None => self.id.clone(),
        }
    }
}

/// Where a client wants to begin (RFC 2326 section 12.29). Only normal play time is understood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// `npt=now-`
    Now,
    /// `npt=12.5-`, seconds from the beginning.
    From(f64),
}

impl Range {
    /// Reads the header; `None` for other units and for what makes no sense.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (unit, range) = value.split_once('=')?;
        let start = range.split('-').next()?.trim();
        if !unit.trim().eq_ignore_ascii_case("npt") {
            return None;
        }
        if start.eq_ignore_ascii_case("now") {
            return Some(Self::Now);
        }
        let mut parts = start.split(':').map(str::parse::<f64>);
        let seconds = parts.try_fold(0.0, |sum, part| part.map(|part| sum * 60.0 + part));
        let seconds = seconds.ok()?;
        (seconds.is_finite() && seconds >= 0.0).then_some(Self::From(seconds))
    }

    /// Writes the header.
    #[must_use]
    pub fn write(self) -> String {
        match self {
            Self::Now => "npt=now-".to_owned(),
            Self::From(seconds) => format!("npt={seconds:.3}-"),
        }
    }
}

/// Where a track's packets begin (RFC 2326 section 12.33).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpInfo {
    /// The track's control URL.
    pub url: String,
    /// The sequence number of the first packet.
    pub sequence: u16,
    /// The RTP time of the first packet.
    pub time: u32,
}

impl RtpInfo {
    /// Writes the header of all tracks.
    #[must_use]
    pub fn write(tracks: &[Self]) -> String {
        let parts = tracks.iter().map(|track| {
            let Self {
                url,
                sequence,
                time,
            } = track;
            format!("url={url};seq={sequence};rtptime={time}")
        });
        parts.collect::<Vec<_>>().join(",")
    }

    /// Reads the header. A track without numbers is left out.
    #[must_use]
    pub fn parse(value: &str) -> Vec<Self> {
        let track = |text: &str| {
            let (mut url, mut sequence, mut time) = (None, None, None);
            for part in text.split(';') {
                url = url.or_else(|| parameter(part, "url"));
                sequence = sequence.or_else(|| parameter(part, "seq"));
                time = time.or_else(|| parameter(part, "rtptime"));
            }
            Some(Self {
                url: url?.to_owned(),
                sequence: sequence?.parse().ok()?,
                time: time?.parse().ok()?,
            })
        };
        value.split(',').filter_map(track).collect()
    }
}

/// The value of `name=value`, without quotes.
pub(crate) fn parameter<'a>(part: &'a str, name: &str) -> Option<&'a str> {
    let (known, value) = part.split_once('=')?;
    known
        .trim()
        .eq_ignore_ascii_case(name)
        .then(|| value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_with_and_without_its_timeout() {
        let session = |id: &str, timeout| {
            let id = id.to_owned();
            Some(Session {
                id,
                timeout: Option::map(timeout, Duration::from_secs),
            })
        };

        assert_eq!(Session::parse("4f3a"), session("4f3a", None));
        assert_eq!(
            Session::parse(" 4f3a ; Timeout=60 "),
            session("4f3a", Some(60))
        );
        assert_eq!(Session::parse("4f3a;timeout=soon"), session("4f3a", None));
        assert_eq!(Session::parse(";timeout=60"), None);
        assert_eq!(
            session("4f3a", Some(60)).map(|s| s.write()).as_deref(),
            Some("4f3a;timeout=60")
        );
    }

    #[test]
    fn ranges_in_normal_play_time_are_read() {
        assert_eq!(Range::parse("npt=now-"), Some(Range::Now));
        assert_eq!(Range::parse("npt=0.000-"), Some(Range::From(0.0)));
        assert_eq!(Range::parse("NPT = 12.5-20"), Some(Range::From(12.5)));
        assert_eq!(Range::parse("npt=1:02:03.5-"), Some(Range::From(3723.5)));
        for other in [
            "smpte=0:10:00-",
            "npt=-5",
            "npt=x-",
            "clock=19961108T142300Z-",
            "npt",
        ] {
            assert_eq!(Range::parse(other), None, "{other}");
        }
        assert_eq!(Range::From(0.0).write(), "npt=0.000-");
    }

    #[test]
    fn rtp_info_survives_its_text() {
        let tracks = vec![
            RtpInfo {
                url: "rtsp://h/cam/trackID=1".into(),
                sequence: 65_535,
                time: 4_294_967_295,
            },
            RtpInfo {
                url: "rtsp://h/cam/trackID=2".into(),
                sequence: 0,
                time: 0,
            },
        ];

        assert_eq!(RtpInfo::parse(&RtpInfo::write(&tracks)), tracks);
        assert_eq!(RtpInfo::parse("url=a;seq=70000;rtptime=1,url=b;seq=1"), []);
    }
}
