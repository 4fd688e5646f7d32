//! Questions in a chain of nodes, and what becomes of too many.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use levada_wire::machine::harness::check_contract;
use rand_core::Rng as _;

use super::*;

const NOW: Instant = Instant::ZERO;

fn id(node: u8) -> NodeId {
    NodeId([node; 32])
}

fn prefix(node: u8) -> NodePrefix {
    id(node).prefix()
}

/// A node with a link of the peer's number to each of these.
fn node(peers: &[u8]) -> Survey {
    let mut survey = Survey::default();
    for &peer in peers {
        let link = LinkIndex(peer.into());
        survey.handle_input(
            NOW,
            Input::LinkUp {
                link,
                peer: id(peer),
            },
        );
    }
    survey
}

fn asked(link: u8, id: u32, path: &[u8]) -> Input {
    Input::Asked {
        link: LinkIndex(link.into()),
        question: Question {
            id,
            path: path.iter().map(|node| prefix(*node)).collect(),
            flow: None,
        },
    }
}

fn outputs(survey: &mut Survey) -> Vec<Output> {
    std::iter::from_fn(|| survey.poll_output()).collect()
}

fn overview(name: &str) -> Overview {
    Overview {
        name: name.to_owned(),
        ..Overview::default()
    }
}

/// The question that a node sends on.
fn sent(survey: &mut Survey) -> (LinkIndex, Question) {
    match outputs(survey).as_slice() {
        [
            Output::Send {
                link,
                message: LinkMessage::Question(question),
            },
        ] => (*link, question.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_comes_back_the_way_that_the_question_went() {
    // 1 asks 3 by way of 2.
    let (mut one, mut two, mut three) = (node(&[2]), node(&[1, 3]), node(&[2]));
    let path = vec![prefix(2), prefix(3)];
    one.handle_input(
        NOW,
        Input::Ask(Ask {
            ask: 7,
            path,
            flow: Some(FlowId(9)),
        }),
    );
    let (to, question) = sent(&mut one);
    assert_eq!((to, question.path.len()), (LinkIndex(2), 1));

    let link = LinkIndex(1);
    two.handle_input(NOW, Input::Asked { link, question });
    let (to, question) = sent(&mut two);
    assert_eq!((to, question.path.len()), (LinkIndex(3), 0));

    let link = LinkIndex(2);
    three.handle_input(NOW, Input::Asked { link, question });
    let [Output::Describe { question, flow }] = outputs(&mut three)[..] else {
        panic!("it is asked what it is");
    };
    assert_eq!(flow, Some(FlowId(9)));
    let overview = overview("three");
    three.handle_input(
        NOW,
        Input::Described {
            question,
            overview: overview.clone(),
        },
    );
    for (survey, link) in [(&mut two, 3), (&mut one, 2)] {
        let [
            Output::Send {
                message: LinkMessage::Answer(answer),
                ..
            },
        ] = &outputs(&mut three)[..]
        else {
            panic!("it answers");
        };
        let answer = answer.clone();
        let link = LinkIndex(link);
        survey.handle_input(NOW, Input::Answered { link, answer });
        std::mem::swap(&mut three, survey);
    }

    // After the second swap the asker is in the third's place.
    assert_eq!(
        outputs(&mut three),
        [Output::Heard {
            ask: 7,
            heard: Ok(overview)
        }]
    );
}

#[test]
fn where_the_path_ends_early_it_is_said_at_once() {
    let mut survey = node(&[1, 2]);

    survey.handle_input(NOW, asked(1, 5, &[9]));
    // Nor does it go back where it came from.
    survey.handle_input(NOW, asked(1, 6, &[1]));

    let answered = outputs(&mut survey).into_iter().map(|output| match output {
        Output::Send {
            link,
            message: LinkMessage::Answer(answer),
        } => (link.0, answer.id, answer.overview),
        other => panic!("{other:?}"),
    });
    assert_eq!(answered.collect::<Vec<_>>(), [(1, 5, None), (1, 6, None)]);
}

#[test]
fn what_is_not_answered_ends_in_time_and_a_late_answer_changes_nothing() {
    let mut survey = node(&[2]);
    let ask = |ask| {
        let path = vec![prefix(2)];
        Input::Ask(Ask {
            ask,
            path,
            flow: None,
        })
    };
    survey.handle_input(NOW, ask(1));
    let (_, question) = sent(&mut survey);

    survey.handle_timeout(NOW + SURVEY_WAIT);
    let answer = Answer {
        id: question.id,
        overview: None,
    };
    let link = LinkIndex(2);
    survey.handle_input(NOW + SURVEY_WAIT, Input::Answered { link, answer });

    let heard = Err(Unheard::Silent);
    assert_eq!(outputs(&mut survey), [Output::Heard { ask: 1, heard }]);
    assert!(survey.poll_timeout().is_none());
}

#[test]
fn only_who_was_asked_can_answer() {
    let mut survey = node(&[2, 3]);
    let path = vec![prefix(2)];
    let flow = None;
    survey.handle_input(NOW, Input::Ask(Ask { ask: 1, path, flow }));
    let (_, Question { id, .. }) = sent(&mut survey);

    let overview = Some(overview("forged"));
    let (link, answer) = (LinkIndex(3), Answer { id, overview });
    survey.handle_input(NOW, Input::Answered { link, answer });
    let described = Input::Described {
        question: id,
        overview: Overview::default(),
    };
    survey.handle_input(NOW, described);

    assert_eq!(outputs(&mut survey), []);
}

#[test]
fn a_link_has_a_budget_of_questions_and_all_links_have_one() {
    let mut survey = node(&[1, 2, 3, 4, 5]);
    let mut taken = |link: u8, times: u32, now: Instant| {
        for at in 0..times {
            survey.handle_input(now, asked(link, at, &[99]));
        }
        outputs(&mut survey).len()
    };

    let first = taken(1, 10 * QUESTIONS_BURST, NOW);
    let others: usize = (2..=5).map(|link| taken(link, QUESTIONS_BURST, NOW)).sum();
    let later = taken(1, 10 * QUESTIONS_BURST, NOW + Duration::from_secs(2));

    assert_eq!(first, QUESTIONS_BURST as usize);
    assert_eq!(first + others, QUESTIONS_ALL_BURST as usize);
    assert_eq!(later, 2 * QUESTIONS_PER_SECOND as usize);
}

#[test]
fn only_so_many_are_under_way_and_a_path_is_only_so_long() {
    let mut survey = node(&[2]);
    let ask = |ask, length| {
        let path = vec![prefix(2); length];
        Input::Ask(Ask {
            ask,
            path,
            flow: None,
        })
    };

    for at in 0..QUESTIONS_MAX as u64 {
        survey.handle_input(NOW, ask(at, 1));
    }
    assert_eq!(outputs(&mut survey).len(), QUESTIONS_MAX);
    survey.handle_input(NOW, ask(1_000, 1));
    survey.handle_input(NOW, asked(2, 1, &[]));
    let heard = Err(Unheard::Busy);
    assert_eq!(outputs(&mut survey), [Output::Heard { ask: 1_000, heard }]);

    let later = NOW + SURVEY_WAIT;
    survey.handle_timeout(later);
    outputs(&mut survey);
    survey.handle_input(later, ask(1_001, SURVEY_PATH_MAX + 1));
    survey.handle_input(later, asked(2, 2, &[9; SURVEY_PATH_MAX + 1]));
    let heard = Err(Unheard::NoWay);
    assert_eq!(outputs(&mut survey), [Output::Heard { ask: 1_001, heard }]);
}

#[test]
fn the_contract_holds() {
    check_contract(
        0..300,
        |_| Survey::default(),
        |rng| {
            let (link, peer) = (LinkIndex(rng.next_u32() % 3), rng.next_u32() as u8 % 4);
            let question = rng.next_u32() % 4;
            let path = vec![prefix(peer); rng.next_u32() as usize % 3];
            match rng.next_u32() % 6 {
                0 => Input::LinkUp {
                    link,
                    peer: id(peer),
                },
                1 => Input::LinkDown { link },
                2 => asked(link.0 as u8, question, &[peer]),
                3 => Input::Answered {
                    link,
                    answer: Answer {
                        id: question,
                        overview: None,
                    },
                },
                4 => Input::Described {
                    question,
                    overview: Overview::default(),
                },
                _ => Input::Ask(Ask {
                    ask: question.into(),
                    path,
                    flow: None,
                }),
            }
        },
    );
}
