//! Tests of what the user wrote and of what it means.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

fn named(name: &str) -> RawConfig {
    RawConfig {
        name: Some(name.to_owned()),
        ..RawConfig::default()
    }
}

fn resolve(toml: &str) -> Result<Config, ConfigError> {
    Config::resolve(RawConfig::from_toml(toml, &[]).unwrap())
}

#[test]
fn a_flag_beats_the_environment() {
    let merged = named("flag").or(named("environment"));

    assert_eq!(Config::resolve(merged).unwrap().name.unwrap(), "flag");
}

#[test]
fn the_environment_beats_the_file() {
    let environment = [("LEVADA_NAME".to_owned(), "environment".to_owned())];
    let environment = RawConfig::from_env(environment, &[]).unwrap();
    let file = RawConfig::from_toml("name = 'file'\nrelay = 'never'", &[]).unwrap();

    let config = Config::resolve(RawConfig::default().or(environment).or(file)).unwrap();

    assert_eq!(config.name.unwrap(), "environment");
    assert_eq!(
        config.relay,
        Relay::Never,
        "what the stronger leaves out is the weaker's"
    );
}

#[test]
fn the_file_beats_the_default() {
    let config = resolve("listen = '127.0.0.1:99'\nclient = true\njoin = ['a']").unwrap();

    assert_eq!(config.listen, "127.0.0.1:99".parse().unwrap());
    assert!(config.client);
}

#[test]
fn without_anything_the_defaults_stand() {
    let config = Config::resolve(RawConfig::default()).unwrap();

    assert_eq!(config.listen.port(), 7800);
    assert_eq!(config.relay, Relay::Auto);
    assert_eq!(config.log, "info");
    assert!(config.join.is_empty() && !config.client);
}

#[test]
fn every_key_of_the_environment_is_taken() {
    let variables = [
        ("LEVADA_LISTEN", "127.0.0.1:1"),
        ("LEVADA_JOIN", "a:1, b:2"),
        ("LEVADA_RELAY", "always"),
        ("LEVADA_CLIENT", "yes"),
        ("LEVADA_LANES", "3"),
        ("LEVADA_UPLINK", "50Mb/s"),
        ("LEVADA_INTERFACE_RATE", "2.5Gb/s"),
        ("LEVADA_STATE", "/s"),
        ("LEVADA_LOG", "debug"),
        ("PATH", "/bin"),
    ];
    let variables = variables.map(|(key, value)| (key.to_owned(), value.to_owned()));

    let config = Config::resolve(RawConfig::from_env(variables, &[]).unwrap()).unwrap();

    let shown: Vec<String> = config.join.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["a:1", "b:2"]);
    assert_eq!(config.listen, "127.0.0.1:1".parse().unwrap());
    assert_eq!(config.relay, Relay::Always);
    assert!(config.client);
    assert_eq!(config.lanes, Some(3));
    assert_eq!(config.uplink, Some(Bitrate(50_000_000)));
    assert_eq!(config.interface_rate, Some(Bitrate(2_500_000_000)));
    assert_eq!(config.state, PathBuf::from("/s"));
    assert_eq!(config.log, "debug");
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
    let error = RawConfig::from_toml("relais = 'never'", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown key `relais`: did you mean `relay`?"
    );

    let error = RawConfig::from_toml("bandwidth = 3", &["user"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("there are name, listen"), "{error}");

    let variables = [("LEVADA_RELAIS".to_owned(), "x".to_owned())];
    let error = RawConfig::from_env(variables, &[]).unwrap_err().to_string();
    assert!(error.contains("did you mean `LEVADA_RELAY`?"), "{error}");
}

#[test]
fn the_programs_own_keys_are_left_to_it() {
    let raw = RawConfig::from_toml("name = 'x'\n[[user]]\nname = 'anna'", &["user"]).unwrap();
    let refused = RawConfig::from_toml("[[usr]]", &["user"]).unwrap_err();
    let variables = || [("LEVADA_RTSP".to_owned(), "x".to_owned())];

    assert_eq!(raw, named("x"));
    assert_eq!(
        refused.to_string(),
        "unknown key `usr`: did you mean `user`?"
    );
    assert!(RawConfig::from_env(variables(), &["rtsp"]).is_ok());
    assert!(RawConfig::from_env(variables(), &[]).is_err());
}

#[test]
fn a_value_of_the_wrong_type_is_shown_with_its_line() {
    let error = RawConfig::from_toml("name = 'x'\nclient = 'maybe'", &[])
        .unwrap_err()
        .to_string();

    assert!(
        error.contains("line 2") && error.contains("boolean"),
        "{error}"
    );
}

#[test]
fn a_value_that_cannot_be_meant_is_refused_with_the_cure() {
    for (toml, cure) in [
        ("listen = 'here'", "IP:PORT"),
        ("relay = 'sometimes'", "`always`, `auto` or `never`"),
        ("join = ['a b']", "HOST[:PORT]"),
        ("client = true", "at least one `join`"),
    ] {
        let error = resolve(toml).unwrap_err().to_string();
        assert!(error.contains(cure), "{toml}: {error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = RawConfig::from_file(std::path::Path::new("no/such/file"), &[]).unwrap_err();

    assert!(error.to_string().contains("no/such/file"), "{error}");
}

#[test]
fn the_sample_without_its_comment_signs_is_a_configuration() {
    let mut toml = String::new();
    for line in SAMPLE.lines() {
        // A key is commented out without prose after the sign.
        let key = line.strip_prefix("# ").unwrap_or(line);
        let is_setting = key.starts_with("[[") || key.split(" = ").count() == 2;
        if is_setting && !key.contains(": ") {
            toml.push_str(key);
            toml.push('\n');
        }
    }

    let config = resolve(&toml).unwrap();

    assert_eq!(config.name.as_deref(), Some("lobby"));
}

#[test]
fn a_number_of_lanes_that_no_node_has_is_refused() {
    for lanes in [0, LANES_MAX + 1] {
        let error = resolve(&format!("lanes = {lanes}"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("write 1 to 8"), "{error}");
    }

    let variables = [("LEVADA_LANES".to_owned(), "many".to_owned())];
    let error = RawConfig::from_env(variables, &[]).unwrap_err().to_string();
    assert!(error.contains("`many`: write a number"), "{error}");
}

#[test]
fn an_uplink_that_is_no_rate_is_refused_with_the_cure() {
    let error = resolve("uplink = '50'").unwrap_err().to_string();

    assert_eq!(
        error,
        "`uplink` is `50`: say the unit: `50Mb/s` or `50kb/s`"
    );
    let error = resolve("interface_rate = '1GB/s'").unwrap_err().to_string();
    assert_eq!(
        error,
        "`interface_rate` is `1GB/s`: `GB/s` means bytes: say bits, as in `4Mb/s`"
    );
    let bare = RawConfig::from_toml("uplink = 50", &[])
        .unwrap_err()
        .to_string();
    assert!(
        bare.contains("expected a rate in quotes, as in \"50Mb/s\""),
        "{bare}"
    );
}

#[test]
fn a_site_is_formed_unless_multicast_is_off_or_the_node_is_a_client() {
    let site = |toml: &str| resolve(toml).unwrap().site;

    assert_eq!(site(""), Some(SiteOptions::default()));
    assert_eq!(site("multicast = false"), None);
    assert_eq!(site("client = true\njoin = ['a']"), None);
    let given = site("site = 'hall'\ninterface = ['eth0', 'eth1']").unwrap();
    assert_eq!(given.label.as_deref(), Some("hall"));
    assert_eq!(given.interfaces, ["eth0", "eth1"]);

    let refused = resolve("multicast = false\nsite = 'hall'").unwrap_err();
    assert!(refused.to_string().contains("`site`"), "{refused}");
    assert!(resolve("site = ''").is_err());
}

#[test]
fn a_reload_notices_each_key_that_changed() {
    let differs = |before: &str, after: &str| {
        let (before, after) = (resolve(before).unwrap(), resolve(after).unwrap());
        assert_eq!(before.differs(&before), [""; 0]);
        before.differs(&after)
    };

    assert_eq!(differs("", "site = 'hall'"), ["site"]);
    assert_eq!(differs("site = 'hall'", "site = 'court'"), ["site"]);
    assert_eq!(differs("", "interface = ['eth0']"), ["interface"]);
    assert_eq!(differs("", "multicast = false"), ["multicast"]);
    assert_eq!(differs("site = 'hall'", "multicast = false"), ["multicast"]);
    assert_eq!(
        differs("", "name = 'a'\nuplink = '1Mb/s'"),
        ["name", "uplink"]
    );
}
