//! Tests of what stands in a file above the library.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada::config::SAMPLE;

use super::*;

/// The part of the sample that is of this file.
const SAMPLE_ABOVE: &str = include_str!("sample.toml");

fn resolve(toml: &str) -> anyhow::Result<Program> {
    RawProgram::from_toml(toml)?.resolve()
}

#[test]
fn an_address_may_leave_out_the_port() {
    assert_eq!(
        address("10.0.0.1", 8554).unwrap().to_string(),
        "10.0.0.1:8554"
    );
    assert_eq!(address("[::1]:554", 8554).unwrap().to_string(), "[::1]:554");
    assert!(address("localhost", 8554).is_err());
}

#[test]
fn without_anything_the_gateways_are_on_and_everybody_may() {
    let program = resolve("name = 'of the library'").unwrap();

    assert_eq!(program.rtsp.map(|rtsp| rtsp.port()), Some(8554));
    assert_eq!(program.http.map(|http| http.port()), Some(8080));
    assert!(program.publish.is_empty() && program.settings.users.is_empty());
    assert_eq!(program.settings.limits, Limits::default());
}

#[test]
fn what_is_written_stands() {
    let toml = "
        rtsp = '127.0.0.1:1'
        http = '127.0.0.1'
        [[publish]]
        name = 'a'
        source = 'test'
        loop = true
        program = 2
        rate = 25
        [[token]]
        name = 'wall'
        hash = 'ff'
        rights = ['play lobby/', 'publish']
        [limits]
        clients = 1
        handshakes_per_address = 2
        client_bytes = 3
        stall = '4s'
    ";

    let program = resolve(toml).unwrap();

    assert_eq!(program.rtsp, Some(([127, 0, 0, 1], 1).into()));
    assert_eq!(program.http, Some(([127, 0, 0, 1], 8080).into()));
    let options = program.publish[0].options;
    assert!(options.repeats);
    assert_eq!(options.program.map(u16::from), Some(2));
    assert_eq!(options.rate.map(u32::from), Some(25));
    assert_eq!(program.settings.tokens[0].rights.len(), 2);
    let limits = Limits::default()
        .with_clients(1)
        .with_handshakes_per_address(2)
        .with_client_bytes(3)
        .with_stall(Duration::from_secs(4));
    assert_eq!(program.settings.limits, limits);
    assert_eq!(resolve("gateways = false").unwrap().rtsp, None);
    assert_eq!(resolve("gateways = false").unwrap().http, None);
}

#[test]
fn an_unknown_key_within_an_entry_is_refused_with_the_one_that_was_meant() {
    for (toml, meant) in [
        ("[[publish]]\nnmae = 'x'", "`nmae`: did you mean `name`?"),
        (
            "[[user]]\npasword = 'x'",
            "`pasword`: did you mean `password`?",
        ),
        ("[[pull]]\nfrm = 'x'", "`frm`: did you mean `from`?"),
        ("[limits]\nclient = 1", "`client`: did you mean `clients`?"),
    ] {
        let error = resolve(toml).unwrap_err().to_string();
        assert!(error.contains(meant), "{toml}: {error}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_cure() {
    for (toml, cure) in [
        ("rtsp = 'here'", "IP:PORT"),
        ("http = 'here'", "0.0.0.0:8080"),
        (
            "[[publish]]\nname = 'a'\nsource = 'x'\nprogram = 0",
            "line 4",
        ),
        ("[[publish]]\nname = 'cam'", "`publish.source` is missing"),
        ("[[publish]]\nname = '../x'\nsource = 'test'", "each part"),
        (
            "publish = [{ name = 'a', source = 'test' }, { name = 'a', source = 'test' }]",
            "give one another",
        ),
        (
            "[[token]]\nname = 'a'\nhash = 'x'\nrights = ['watch']",
            "`play` or `publish`",
        ),
        (
            "[[user]]\nname = 'a'\npassword = 'plain'\nrights = []",
            "`levada user add`",
        ),
        ("rtsps = '[::]:8322'\nkey = 'x.pem'", "belong together"),
        ("rtsps = 'x'", "IP:PORT"),
        ("[[pull]]\nname = 'a'", "`pull.from` is missing"),
        (
            "[[pull]]\nname = 'a'\nfrom = 'http://h/a'",
            "only `rtsp://` can be pulled",
        ),
        (
            "[[pull]]\nname = 'a'\nfrom = 'rtsp://h/a'\ntransport = 'quic'",
            "`tcp` or `udp`",
        ),
        (
            "publish = [{ name = 'a', source = 'test' }]\npull = [{ name = 'a', from = 'rtsp://h' }]",
            "give one another",
        ),
        ("[limits]\nhandshakes_per_address = 0", "1 at least"),
        ("[limits]\nstall = '0s'", "`1s` at least"),
        ("[limits]\nstall = '10'", "say the unit"),
        ("[limits]\nclients = 'many'", "line 2"),
    ] {
        let error = format!("{:#}", resolve(toml).unwrap_err());
        assert!(error.contains(cure), "{toml}: {error}");
    }
}

#[test]
fn a_node_for_its_gateways_alone_forwards_nothing_and_needs_somebody_to_dial() {
    let library = |toml: &str| {
        let raw = RawConfig::from_toml(toml, &KEYS)?;
        RawProgram::from_toml(toml)?.library(raw)
    };

    let light = library("gateway_only = true\njoin = ['hub']").unwrap();
    assert_eq!(light.relay.as_deref(), Some("never"));
    assert_eq!((light.client, light.lanes), (Some(true), Some(1)));
    assert_eq!(library("lanes = 3").unwrap().lanes, Some(3));
    for (toml, cure) in [
        ("gateway_only = true", "somebody to dial"),
        (
            "gateway_only = true\njoin = ['hub']\nrelay = 'always'",
            "leave `relay`",
        ),
    ] {
        let error = library(toml).unwrap_err().to_string();
        assert!(error.contains(cure), "{toml}: {error}");
    }
}

#[test]
fn no_secret_of_a_file_is_in_an_error() {
    for toml in [
        "[[user]]\nname = 'a'\npassword = 'geheim'\nrights = []",
        "[[pull]]\nname = 'a'\nfrom = 'rtsp://u:geheim@h:0/a'",
        "[[pull]]\nname = 'a'\nfrom = 'rtsp://u:geheim@h/a'\nalways = 'x'",
        "[[pull]]\nname = 'a'\nfrom = 'rtsp://u:geheim@h/a",
    ] {
        let error = format!("{:#}", resolve(toml).unwrap_err());
        assert!(!error.contains("geheim"), "{error}");
    }
    let raw = RawProgram::from_toml("[[pull]]\nname = 'a'\nfrom = 'rtsp://u:geheim@h/a'").unwrap();
    let shown = format!("{raw:?} {:?}", raw.clone().resolve().unwrap());
    assert!(!shown.contains("geheim"), "{shown}");
}

#[test]
fn a_flag_beats_the_file() {
    let flag = RawProgram {
        gateways: Some(false),
        ..RawProgram::default()
    };
    let file = RawProgram::from_toml("gateways = true\nrtsp = '127.0.0.1:1'").unwrap();

    let merged = flag.or(file);

    assert_eq!(merged.gateways, Some(false));
    assert_eq!(merged.rtsp.as_deref(), Some("127.0.0.1:1"));
}

#[test]
fn the_whole_sample_without_its_comment_signs_is_a_configuration() {
    let mut toml = String::new();
    for line in SAMPLE.lines().chain(SAMPLE_ABOVE.lines()) {
        let key = line.strip_prefix("# ").unwrap_or(line);
        let is_setting = key.starts_with('[') || key.split(" = ").count() == 2;
        if is_setting && !key.contains(": ") {
            toml.push_str(key);
            toml.push('\n');
        }
    }

    let raw = RawConfig::from_toml(&toml, &KEYS).unwrap();
    let program = resolve(&toml).unwrap();

    assert_eq!(Config::resolve(raw).unwrap().name.as_deref(), Some("lobby"));
    assert_eq!(program.publish.len(), 1, "{toml}");
    assert_eq!(program.pull.len(), 1, "{toml}");
    assert_eq!(program.output.len(), 1, "{toml}");
    assert_eq!(
        (program.settings.users.len(), program.settings.tokens.len()),
        (1, 1)
    );
    for key in KEYS {
        assert!(toml.contains(key), "the sample lacks `{key}`");
    }
}

#[test]
fn an_output_is_checked_and_two_never_share_a_place() {
    let output =
        |keys: &str| format!("[[output]]\nname = 'cam'\nto = 'udp://239.1.1.1:5000'\n{keys}");
    let whole =
        output("rate = '8Mb/s'\nttl = 4\ninterface = 'eth0'\nannounce = false\ndelay = '1s'");

    let spec = resolve(&whole).unwrap().output.remove(0);

    assert_eq!(spec.rate.unwrap().0, 8_000_000);
    assert_eq!((spec.ttl, spec.announce), (4, false));
    assert_eq!(spec.delay, Duration::from_secs(1));
    for (toml, cure) in [
        (output("rate = '8'"), "say the unit"),
        (output("rate = '1kb/s'"), "out of range"),
        (output("ttl = 0"), "TTL of 0"),
        (output("speed = 1"), "speed"),
        (
            format!("{}\n{}", output(""), output("")),
            "another port or group",
        ),
        (
            "[[output]]\nname = 'cam'".to_owned(),
            "`output.to` is missing",
        ),
        (
            "[[output]]\nname = 'cam'\nto = 'tv'".to_owned(),
            "udp://239.1.1.1:5000",
        ),
        (
            (0..65)
                .map(|n| format!("[[output]]\nname = 'cam'\nto = 'udp://239.1.1.{n}:5000'\n"))
                .collect(),
            "64 at most",
        ),
    ] {
        let error = format!("{:#}", resolve(&toml).unwrap_err());
        assert!(error.contains(cure), "{toml}: {error}");
    }
}
