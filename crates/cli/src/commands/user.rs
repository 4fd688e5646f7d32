//! `levada user add`: writes a user or a token into a configuration file.
//!
//! Not the check of who somebody is, which gateways do. Invariant: what is in the file stays as it is, and a file that
//! could not be read afterwards is not written; a password is nowhere but where it was asked for.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use levada_gateway::users::{Right, Token, User};

use crate::config::RawProgram;
use crate::logging::{self, Level};
use crate::{home, say};

/// The longest password that is read, in bytes.
const PASSWORD_BYTES_MAX: u64 = 1_024;

/// What can be done with users.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Add a user or a token to the configuration file; a running node takes it up at once
    Add(AddArgs),
}

/// What it can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// The user's name; for a token, what it is for
    name: String,
    /// Let it play streams whose names begin like this, or all; may be given several times
    #[arg(long, value_name = "PREFIX", num_args = 0..=1, default_missing_value = "")]
    play: Vec<String>,
    /// Let it publish streams whose names begin like this, or all; may be given several times
    #[arg(long, value_name = "PREFIX", num_args = 0..=1, default_missing_value = "")]
    publish: Vec<String>,
    /// Read the password from the first line of this file, or of standard input for `-` [default: one is made up and
    /// shown]
    #[arg(long, value_name = "FILE|-")]
    password_file: Option<PathBuf>,
    /// Let the password be proven without being sent (RTSP's digest): what is kept for that is as good as the password
    /// to whoever reads the file
    #[arg(long, conflicts_with = "token")]
    digest: bool,
    /// Make a token, for URLs that end in `?token=...`, instead of a user with a password
    #[arg(long, conflicts_with = "password_file")]
    token: bool,
    /// The configuration file [default: levada.toml beside the state directories, which `levada run` reads]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn execute(command: Command, debug: bool) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    let Command::Add(args) = command;
    add(args)?;
    Ok(ExitCode::SUCCESS)
}

fn add(args: AddArgs) -> anyhow::Result<()> {
    let rights = rights(&args)?;
    let path = args.config.unwrap_or_else(home::config_file);
    let name = args.name;
    let (entry, secret) = if args.token {
        let (token, secret) = Token::new(&name, rights)?;
        (token_entry(&token), Some(("token", secret)))
    } else {
        let (password, made) = match args.password_file {
            Some(file) => (read_password(&file)?, None),
            None => {
                // As hard to guess as a token.
                let (_, password) = Token::new(&name, Vec::new())?;
                (password.clone(), Some(("password", password)))
            }
        };
        let user = User::new(&name, &password, args.digest, rights)?;
        (user_entry(&user), made)
    };
    append(&path, &entry)
        .with_context(|| format!("`{name}` is not added to {}", path.display()))?;
    say::note(format_args!("`{name}` is added to {}", path.display()));
    if let Some((what, secret)) = secret {
        say::note(format_args!("its {what}, shown this once:"));
        say::result(secret)?;
    }
    Ok(())
}

fn rights(args: &AddArgs) -> anyhow::Result<Vec<Right>> {
    let of = |word: &'static str, prefixes: &[String]| {
        let texts = prefixes
            .iter()
            .map(move |prefix| format!("{word} {prefix}"));
        texts.collect::<Vec<_>>()
    };
    let texts = [of("play", &args.play), of("publish", &args.publish)].concat();
    anyhow::ensure!(
        !texts.is_empty(),
        "`{}` could do nothing: add `--play`, `--publish`, or both, with how the names of streams begin, \
         or nothing behind it for all",
        args.name
    );
    let rights = texts.iter().map(|text| Ok(text.parse()?));
    rights.collect()
}

fn read_password(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin()
            .take(PASSWORD_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        let opened = std::fs::File::open(file);
        opened.and_then(|opened| opened.take(PASSWORD_BYTES_MAX).read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read the password from {}", file.display()))?;
    let line = text.lines().next().unwrap_or_default();
    anyhow::ensure!(
        !line.is_empty(),
        "there is no password in the first line of {}",
        file.display()
    );
    Ok(line.to_owned())
}

fn user_entry(user: &User) -> String {
    let digest = user.digest.as_ref().map_or_else(String::new, |ha1| {
        let (md5, sha256) = (text(&ha1.md5), text(&ha1.sha256));
        format!("digest = {{ md5 = {md5}, sha256 = {sha256} }}\n")
    });
    let (name, password) = (text(&user.name), text(&user.password));
    let rights = list(&user.rights);
    format!("[[user]]\nname = {name}\npassword = {password}\n{digest}rights = {rights}\n")
}

fn token_entry(token: &Token) -> String {
    let (name, hash, rights) = (text(&token.name), text(&token.hash), list(&token.rights));
    format!("[[token]]\nname = {name}\nhash = {hash}\nrights = {rights}\n")
}

fn list(rights: &[Right]) -> String {
    let rights: Vec<_> = rights
        .iter()
        .map(|right| text(&right.to_string()))
        .collect();
    format!("[{}]", rights.join(", "))
}

/// A text as TOML has it.
fn text(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Appends an entry to a file, if the whole is a configuration then.
fn append(path: &Path, entry: &str) -> anyhow::Result<()> {
    let before = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    let gap = match &*before {
        "" => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    let added = format!("{gap}{entry}");
    RawProgram::check(&format!("{before}{added}"))?;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // Hashes of passwords are for this user alone.
        options.mode(0o600);
    }
    options.open(path)?.write_all(added.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn what_is_added_reads_back_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/levada.toml");
        let right: Right = "play sports/".parse().unwrap();
        let user = User::new("anna \u{e9}", "p", true, vec![right.clone()]).unwrap();
        let (token, _) = Token::new("wall", vec![right]).unwrap();

        append(&path, &user_entry(&user)).unwrap();
        append(&path, &token_entry(&token)).unwrap();

        let text = std::fs::read_to_string(&path).unwrap();
        let raw: RawProgram = toml::from_str(&text).unwrap();
        assert_eq!(
            (raw.user, raw.token),
            (Some(vec![user.clone()]), Some(vec![token]))
        );
        let twice = format!("{:#}", append(&path, &user_entry(&user)).unwrap_err());
        assert!(twice.contains("another name"), "{twice}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("levada.toml");
        let (token, _) = Token::new("wall", Vec::new()).unwrap();

        append(&path, &token_entry(&token)).unwrap();

        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
}
