//! `levada top`: a running node in a terminal, kept up to date, with the keys of htop.
//!
//! ```text
//!   local socket ─▶ Snapshot, each second ─▶ App: what is shown ─▶ draw ─▶ terminal
//!   keyboard ─────▶ Key ────────────────────▶ App
//! ```
//!
//! Not what is shown (`app`) nor how (`draw`). Invariant: however it ends, the terminal is as it was.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use levada::admin::{Client, ClientError};
use levada::view::MapRow;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::access;
use crate::home;
use crate::logging::{self, Level};
use crate::shutdown::Shutdown;

mod app;
mod draw;
use app::{App, Key, Snapshot};

/// How often the node is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the nodes around it are asked, in looks.
const MAP_EVERY: u32 = 3;
/// How often the thread that reads the keyboard looks whether it is still wanted.
const KEYBOARD_LOOK: Duration = Duration::from_millis(200);
/// Keys that may wait.
const KEYS_MAX: usize = 16;

/// What it can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node whose state directory this is [default: the one of `levada run`]
    #[arg(long, value_name = "DIR")]
    node: Option<PathBuf>,
}

pub(crate) async fn execute(
    args: Args,
    shutdown: Shutdown,
    debug: bool,
) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    let dir = args.node.unwrap_or_else(home::node_dir);
    // What is wrong is said before the screen is taken.
    let first = look(&dir, true).await?;
    anyhow::ensure!(
        std::io::stdout().is_terminal(),
        "`levada top` needs a terminal: `levada flows --watch` and the others print to anything"
    );
    let mut terminal = ratatui::try_init()?;
    let result = run(&mut terminal, &dir, first, shutdown).await;
    ratatui::try_restore()?;
    result.map(|()| ExitCode::SUCCESS)
}

async fn run(
    terminal: &mut DefaultTerminal,
    dir: &Path,
    first: Snapshot,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut app = App::new(first);
    let mut keys = keyboard();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut looks = 0;
    while !app.is_over() {
        terminal.draw(|frame| draw::draw(frame, &app))?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(Pressed::Key(key)) => app.on_key(key),
                Some(Pressed::Resized) => {}
                None => return Ok(()),
            },
            _ = ticks.tick() => {
                looks += 1;
                match look(dir, looks % MAP_EVERY == 0).await {
                    Ok(snapshot) => app.on_snapshot(snapshot),
                    Err(error) => app.on_silence(error.to_string()),
                }
            }
            () = shutdown.wait() => return Ok(()),
        }
    }
    Ok(())
}

/// Looks at the node, and sometimes at those around it.
async fn look(dir: &Path, with_map: bool) -> Result<Snapshot, ClientError> {
    let view = access::view(dir).await?;
    let map = match with_map {
        true => {
            let rows = Client::connect(dir).await?.rows::<MapRow>().await?;
            Some(rows.rows)
        }
        false => None,
    };
    Ok(Snapshot { view, map })
}

/// What a person did.
enum Pressed {
    Key(Key),
    Resized,
}

/// Reads the keyboard in a thread of its own, for as long as somebody takes the keys.
fn keyboard() -> mpsc::Receiver<Pressed> {
    let (to, keys) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while !to.is_closed() {
            let pressed = match event::poll(KEYBOARD_LOOK)
                .and_then(|is_there| is_there.then(event::read).transpose())
            {
                Ok(Some(Event::Key(key))) => key_of(key).map(Pressed::Key),
                Ok(Some(Event::Resize(..))) => Some(Pressed::Resized),
                Ok(_) => None,
                Err(_) => return,
            };
            if let Some(pressed) = pressed
                && to.blocking_send(pressed).is_err()
            {
                return;
            }
        }
    });
    keys
}

fn key_of(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Char(letter) => Key::Letter(letter),
        KeyCode::F(number) => Key::Function(number),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Tab | KeyCode::Right => Key::Next,
        KeyCode::BackTab | KeyCode::Left => Key::Previous,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}
