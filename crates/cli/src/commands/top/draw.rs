//! Draws what `top` shows: a head with sparklines, tabs, lines, and the keys at the foot.
//!
//! Not what is shown (`app`). Invariant: it fits 80 columns and 24 lines, and a smaller terminal cuts it and nothing
//! panics.

use levada::Bitrate;
use levada::view::{FlowState, LinkState};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Clear, Paragraph, Row, Sparkline, Table, TableState};

use super::app::{App, Tab};
use crate::table::time;

/// What the keys do, at the foot.
const KEYS: [(&str, &str); 7] = [
    ("F1", "Help"),
    ("F4", "Filter"),
    ("F5", "Tree"),
    ("F6", "Sort"),
    ("Tab", "Next"),
    ("Space", "Pause"),
    ("F10", "Quit"),
];
const HELP: &str = "\
 Up, Down, PgUp, PgDn, Home, End   select a line
 1 2 3 4, Tab                      streams, links, tree, events
 Enter                             the tree of the selected stream
 F4 or /                           filter; Enter keeps it, Esc ends it
 F5 or t                           the tree: the way of a stream
 F6 or s                           sort by name, rate, loss
 Space                             pause
 F10 or q                          quit

 ACTIVE is played here, STREAMING only passed on,
 HOLD is known and nothing flows. Any key goes back.";

pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, app);
    draw_tabs(frame, tabs, app);
    match app.tab {
        Tab::Streams => draw_streams(frame, body, app),
        Tab::Links => draw_links(frame, body, app),
        Tab::Tree => draw_tree(frame, body, app),
        Tab::Events => draw_events(frame, body, app),
    }
    draw_foot(frame, foot, app);
    if app.shows_help {
        let area = body.intersection(Rect::new(body.x, body.y, 66, 13));
        frame.render_widget(Clear, area);
        frame.render_widget(Paragraph::new(HELP), area);
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let [about, received, sent] = Layout::vertical([Constraint::Length(1); 3]).areas(area);
    let node = &app.view.node;
    let up = app
        .view
        .links
        .iter()
        .filter(|row| row.control.state.is_up());
    let mut line = vec![
        Span::from(node.name.clone()).bold(),
        Span::from(format!(
            " {} {}, up {}, {} links, {} streams",
            node.id.short(),
            node.listen,
            span(node.uptime_seconds.0.as_secs()),
            up.count(),
            app.view.streams.len()
        )),
    ];
    if let Some(why) = &app.silence {
        line = vec![Span::from(why.clone()).style(Style::new().fg(Color::Red))];
    } else if app.is_paused {
        line.push(Span::from(" PAUSED").style(Style::new().fg(Color::Yellow)));
    }
    frame.render_widget(Line::from(line), about);
    for (area, word, rates, colour) in [
        (received, "in ", &app.received, Color::Cyan),
        (sent, "out", &app.sent, Color::Green),
    ] {
        let [label, chart] =
            Layout::horizontal([Constraint::Length(17), Constraint::Fill(1)]).areas(area);
        let now = Bitrate(rates.back().copied().unwrap_or(0));
        frame.render_widget(Line::from(format!("{word} {now:>12}")), label);
        let from = rates.len().saturating_sub(usize::from(chart.width));
        let shown: Vec<u64> = rates.range(from..).copied().collect();
        frame.render_widget(Sparkline::default().data(&shown).style(colour), chart);
    }
}

fn draw_tabs(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let mut spans = Vec::new();
    for (number, tab) in (1..).zip(Tab::ALL) {
        let style = if tab == app.tab {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new().dim()
        };
        spans.push(Span::styled(format!(" {number} {} ", tab.title()), style));
        spans.push(Span::from(" "));
    }
    if app.is_typing || !app.filter.is_empty() {
        let mark = if app.is_typing { "_" } else { "" };
        spans.push(Span::from(format!("filter: {}{mark}", app.filter)).fg(Color::Yellow));
    }
    frame.render_widget(Line::from(spans), area);
}

/// Lines under heads, the selected one marked and in sight.
fn draw_table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    app: &App,
    columns: [(&str, Constraint); N],
    rows: Vec<Row<'_>>,
    nothing: &str,
) {
    if rows.is_empty() {
        frame.render_widget(Line::from(nothing.to_owned()).dim(), area);
        return;
    }
    let heads = Row::new(columns.map(|(head, _)| head)).bold();
    let table = Table::new(rows, columns.map(|(_, width)| width))
        .header(heads)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(app.selected);
    frame.render_stateful_widget(table, area, &mut state);
}

fn draw_streams(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let rows = app.streams().into_iter().map(|row| {
        let colour = match row.state {
            FlowState::Active => Color::Blue,
            FlowState::Streaming => Color::Green,
            FlowState::Hold => Color::Reset,
        };
        let repaired = app.flow_of(row).map_or(0, |flow| flow.counters.repaired);
        let distance = match (row.is_local, row.distance_seconds) {
            (true, _) => "here".to_owned(),
            (false, Some(distance)) => time(distance.0),
            (false, None) => "no way".to_owned(),
        };
        Row::new([
            Cell::from(row.name.to_string()),
            Cell::from(row.state.to_string()).style(Style::new().fg(colour)),
            Cell::from(format!("{:>11}", Bitrate(app.rate_of(row)).to_string())),
            Cell::from(format!(
                "{:>5}",
                row.demand.subscriptions + row.demand.children
            )),
            Cell::from(format!("{repaired:>8}")),
            Cell::from(format!("{distance:>9}")),
        ])
    });
    let columns = [
        ("STREAM", Constraint::Fill(1)),
        ("STATE", Constraint::Length(9)),
        ("       RATE", Constraint::Length(11)),
        (" WANT", Constraint::Length(5)),
        ("REPAIRED", Constraint::Length(8)),
        (" DISTANCE", Constraint::Length(9)),
    ];
    draw_table(
        frame,
        area,
        app,
        columns,
        rows.collect(),
        "no stream is known here",
    );
}

fn draw_links(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let rows = app.links().into_iter().map(|row| {
        let link = &row.control;
        let rtt = link
            .rtt_seconds
            .map_or_else(|| "-".to_owned(), |rtt| time(rtt.0));
        let state = match (&link.cause, link.state) {
            (Some(cause), state) if state != LinkState::Up => format!("{state}: {cause}"),
            (_, state) => state.to_string(),
        };
        let style = if link.state == LinkState::Up {
            Style::new()
        } else {
            Style::new().fg(Color::Yellow)
        };
        Row::new([
            Cell::from(link.name.clone()),
            Cell::from(link.remote.to_string()),
            Cell::from(format!("{rtt:>9}")),
            Cell::from(format!("{:>6}", permille(App::loss(row)))),
            Cell::from(format!("{:>11}", link.admitted_bps.to_string())),
            Cell::from(state),
        ])
        .style(style)
    });
    let columns = [
        ("NAME", Constraint::Length(14)),
        ("ADDRESS", Constraint::Length(21)),
        ("      RTT", Constraint::Length(9)),
        ("  LOSS", Constraint::Length(6)),
        ("   ADMITTED", Constraint::Length(11)),
        ("STATE", Constraint::Fill(1)),
    ];
    draw_table(
        frame,
        area,
        app,
        columns,
        rows.collect(),
        "this node has no link and no neighbour to dial",
    );
}

fn draw_tree(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let rows = app.tree().into_iter().map(|branch| {
        let name = match branch.depth {
            0 => branch.name,
            depth => format!("{}└─ {}", "   ".repeat(depth - 1), branch.name),
        };
        let latency = branch.latency.map_or_else(|| "-".to_owned(), time);
        Row::new([
            Cell::from(name),
            Cell::from(format!("{latency:>9}")),
            Cell::from(format!("{:>6}", permille(branch.loss_permille))),
            Cell::from(format!("{:>8}", branch.repaired)),
            Cell::from(format!("{:>5}", branch.consumers)),
        ])
    });
    let head = app.tree_of().unwrap_or_default();
    let columns = [
        (&*head, Constraint::Fill(1)),
        ("  LATENCY", Constraint::Length(9)),
        ("  LOSS", Constraint::Length(6)),
        ("REPAIRED", Constraint::Length(8)),
        ("PLAYS", Constraint::Length(5)),
    ];
    draw_table(
        frame,
        area,
        app,
        columns,
        rows.collect(),
        "no stream flows here: its tree is shown once it does",
    );
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let rows = app.shown_events().into_iter().map(|(at, text)| {
        Row::new([
            Cell::from(format!("{:>8}", span(*at))),
            Cell::from(text.clone()),
        ])
    });
    let columns = [
        ("   UPTIME", Constraint::Length(9)),
        ("WHAT", Constraint::Fill(1)),
    ];
    draw_table(
        frame,
        area,
        app,
        columns,
        rows.collect(),
        "nothing has happened since `top` began",
    );
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let mut spans = Vec::new();
    for (key, word) in KEYS {
        spans.push(Span::from(key));
        let style = Style::new().fg(Color::Black).bg(Color::Cyan);
        spans.push(Span::styled(format!("{word} "), style));
    }
    spans.push(Span::from(format!(" by {}", app.order.title())).dim());
    frame.render_widget(Line::from(spans), area);
}

fn permille(loss: u16) -> String {
    format!("{}.{}%", loss / 10, loss % 10)
}

/// Seconds, as people read them.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{} h {:02}", seconds / 3_600, seconds / 60 % 60),
    }
}
