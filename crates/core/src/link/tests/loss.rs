//! Tests of what pings and pongs say of a link: its round trip, and its loss.

use super::*;
use crate::view::{Ratio, Seconds};

#[test]
fn round_trip_and_loss_come_from_pings_and_pongs() {
    let mut links = up_at(0);
    let pong = |millis: u64, sent, received| {
        Input::Lane(
            LINK,
            LinkEvent::Datagram {
                message: LinkDatagram::Pong(Pong {
                    time: at(millis - 20).as_micros(),
                    sent,
                    received,
                    size: 0,
                }),
                received: 0,
            },
        )
    };

    links.handle_input(at(1_000), pong(1_000, 100, 100));
    links.handle_input(at(3_500), pong(3_500, 1_100, 1_000));

    let row = links.rows(None).next().unwrap();
    assert_eq!(row.rtt_seconds, Some(Seconds(Duration::from_millis(20))));
    assert_eq!(row.loss_out_ratio, Some(Ratio { permille: 100 }));
}

#[test]
fn a_ping_that_overtakes_packets_shows_no_loss_and_what_is_lost_shows_in_the_end() {
    let mut links = up_at(0);
    let mut sent = 0;
    let mut loss_after = |windows: u64, lost_each: u64| {
        // A ping each 100 ms; the last of each window overtakes five packets.
        let begin = sent;
        for ping in 0..windows * 20 {
            sent += 50;
            let millis = 1_000 + (sent / 50) * 100;
            let overtaken = if ping % 20 > 17 { 5 } else { 0 };
            let lost = lost_each * ((sent - begin) / 1_000);
            let input = Input::Lane(
                LINK,
                LinkEvent::Datagram {
                    message: LinkDatagram::Pong(Pong {
                        time: at(millis - 20).as_micros(),
                        sent,
                        received: sent - overtaken - lost,
                        size: 0,
                    }),
                    received: 0,
                },
            );
            links.handle_input(at(millis), input);
            drain(&mut links);
        }
        let row = links.rows(None).next().unwrap();
        row.loss_out_ratio.unwrap().permille
    };

    assert_eq!(loss_after(3, 0), 0);
    assert_eq!(loss_after(4, 30), 30);
}
