//! Tests of what waits for a lane: rooms, turns and order.

use levada_lane::api::{Channel, Interface};
use levada_wire::LinkIndex;

use super::*;
use crate::testkit::{self, FLOW, frame};

const OTHER: FlowId = FlowId(7);

fn push(bytes: usize) -> Command {
    testkit::push(frame(1, true, 0, bytes))
}

fn open() -> Command {
    Command::Flow(OTHER, FlowCommand::Open)
}

fn finish() -> Command {
    Command::Publisher(FLOW, PublisherCommand::Finish)
}

fn close() -> Command {
    Command::Flow(FLOW, FlowCommand::Close)
}

/// The commands of one turn, a letter each.
fn turn(commands: &mut Commands) -> String {
    let mut taken = Vec::new();
    commands.take(&mut taken);
    let letter = |command: &Command| match command {
        Command::Flow(FLOW, FlowCommand::Originate(_)) => 'O',
        Command::Publisher(_, PublisherCommand::Push { .. }) => 'p',
        Command::Publisher(_, PublisherCommand::Finish) => 'F',
        Command::Flow(_, FlowCommand::Close) => 'C',
        _ => '.',
    };
    taken.iter().map(letter).collect()
}

/// Gives as many as there is room for.
fn fill(commands: &mut Commands, one: impl Fn() -> Command) -> usize {
    (0..).take_while(|_| commands.give(one()).is_ok()).count()
}

#[test]
fn frames_without_end_leave_the_room_of_control_and_its_turn() {
    let mut commands = Commands::default();

    assert_eq!(fill(&mut commands, || push(1)), FRAMES_MAX);

    assert_eq!(fill(&mut commands, open), COMMANDS_MAX);
    let first = turn(&mut commands);
    assert!(first.starts_with(&".".repeat(COMMANDS_PER_TURN)));
    assert_eq!(first.len(), COMMANDS_PER_TURN + FRAMES_PER_TURN);
}

#[test]
fn control_without_end_leaves_the_room_of_frames_and_their_turn() {
    let mut commands = Commands::default();

    assert_eq!(fill(&mut commands, open), COMMANDS_MAX);

    assert!(commands.give(push(1)).is_ok());
    assert!(turn(&mut commands).ends_with(".p"));
}

#[test]
fn large_frames_are_taken_a_few_at_a_time_and_one_is_always_taken() {
    let mut commands = Commands::default();
    let half = FRAME_BYTES_PER_TURN / 2;

    assert_eq!(fill(&mut commands, || push(half)), FRAME_BYTES_MAX / half);
    assert_eq!(turn(&mut commands), "pp");

    let mut commands = Commands::default();
    assert!(commands.give(push(FRAME_BYTES_MAX + 1)).is_ok());
    assert!(commands.give(push(1)).is_err());
    assert_eq!(turn(&mut commands), "p");
}

#[test]
fn the_end_of_a_flow_has_room_and_comes_after_its_frames() {
    let mut commands = Commands::default();
    fill(&mut commands, || push(1));

    assert!(commands.give(finish()).is_ok());
    assert!(commands.give(close()).is_ok());
    assert_eq!(fill(&mut commands, finish), ENDS_MAX - 1);

    let mut all = String::new();
    while !commands.is_empty() {
        all += &turn(&mut commands);
    }
    assert!(all.starts_with(&("p".repeat(FRAMES_MAX) + "FC")));
}

#[test]
fn a_flow_without_frames_is_closed_in_the_order_of_control() {
    let mut commands = Commands::default();
    let other = Command::Publisher(OTHER, PublisherCommand::Finish);

    for command in [other, close(), of_flow(FlowCommand::Open)] {
        assert!(commands.give(command).is_ok());
    }

    assert_eq!(turn(&mut commands), "C.F");
}

#[test]
fn a_frame_waits_for_the_origin_that_was_given_before_it() {
    let mut commands = Commands::default();
    for _ in 0..COMMANDS_PER_TURN {
        assert!(commands.give(open()).is_ok());
    }
    let originate = Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate())));

    for command in [originate, push(1), finish()] {
        assert!(commands.give(command).is_ok());
    }

    assert_eq!(turn(&mut commands), ".".repeat(COMMANDS_PER_TURN));
    assert_eq!(turn(&mut commands), "OpF");
}

fn of_flow(command: FlowCommand) -> Command {
    Command::Flow(FLOW, command)
}

/// All that is taken, turn after turn.
fn all(commands: &mut Commands) -> Vec<Command> {
    let mut all = Vec::new();
    while !commands.is_empty() {
        commands.take(&mut all);
    }
    all
}

#[test]
fn what_would_keep_frames_from_somebody_comes_after_those_that_were_given_before() {
    let link = LinkIndex(1);
    let channel = Channel {
        address: ([232, 1, 1, 1], 5_000).into(),
        interface: Interface {
            index: 1,
            address: None,
        },
    };
    for command in [
        FlowCommand::StopConsuming,
        FlowCommand::RemoveEgress(link),
        FlowCommand::RemoveMember { channel, link },
        FlowCommand::RemoveChannel(channel),
    ] {
        let mut commands = Commands::default();
        for command in [push(1), finish(), of_flow(command), push(1)] {
            assert!(commands.give(command).is_ok());
        }

        assert_eq!(turn(&mut commands), "pF.p");
    }
}

#[test]
fn a_flow_that_is_closed_and_opened_again_is_told_all_in_order() {
    let mut commands = Commands::default();
    let link = LinkIndex(1);
    let originate = || of_flow(FlowCommand::Originate(Box::new(testkit::originate())));
    let given = || {
        [
            push(1),
            close(),
            of_flow(FlowCommand::Open),
            originate(),
            of_flow(FlowCommand::AddUpstream(link)),
            push(2),
            of_flow(FlowCommand::RemoveUpstream(link)),
        ]
    };
    for command in given() {
        assert!(commands.give(command).is_ok());
    }
    assert!(commands.give(open()).is_ok(), "of another flow");

    let taken = format!("{:?}", all(&mut commands));

    let mut in_order = vec![open()];
    in_order.extend(given());
    assert_eq!(taken, format!("{in_order:?}"));
    assert!(commands.behind == 0 && commands.of_flows.is_empty());
    assert!(commands.give(originate()).is_ok());
    assert_eq!(commands.control.len(), 1, "nothing waits of it any more");
}

#[test]
fn what_waits_behind_frames_does_not_overtake_control_that_was_given_before() {
    let mut commands = Commands::default();
    let link = LinkIndex(1);
    assert!(commands.give(push(1)).is_ok());
    for _ in 0..COMMANDS_PER_TURN {
        assert!(commands.give(open()).is_ok());
    }
    for command in [
        FlowCommand::AddUpstream(link),
        FlowCommand::RemoveUpstream(link),
        FlowCommand::Close,
    ] {
        assert!(commands.give(of_flow(command)).is_ok());
    }

    assert_eq!(turn(&mut commands), ".".repeat(COMMANDS_PER_TURN) + "p");
    assert_eq!(turn(&mut commands), "..C");
}
