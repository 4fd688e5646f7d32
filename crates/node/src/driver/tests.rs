//! What a node does when a part of it ends that should not.
//!
//! Not what nodes do together, which stands in `tests/` of the crate. Invariant: whatever is waited for has a deadline.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use super::*;
use crate::node::Node;

#[tokio::test]
async fn a_node_whose_datapath_ends_says_so_and_stops() {
    let state = tempfile::tempdir().unwrap();
    let builder = Node::builder()
        .state(state.path())
        .listen(([127, 0, 0, 1], 0).into());
    let handle = start(builder.clone()).await.unwrap();
    let mut events = handle.events().unwrap();

    handle.shared.datapath.stop().await;
    let stopped = tokio::time::timeout(Duration::from_secs(20), handle.stopped());
    let error = stopped.await.unwrap().unwrap_err().to_string();

    assert!(error.contains("had to stop"), "{error}");
    let event = events.recv().await.unwrap();
    assert!(matches!(event, Event::Failed { .. }), "{event:?}");
    assert!(handle.look(|_| ()).await.is_err());
    start(builder).await.expect("lock and port are free again");
}

#[tokio::test]
async fn a_node_that_was_told_to_leave_has_not_failed() {
    let builder = Node::builder()
        .temporary_state()
        .listen(([127, 0, 0, 1], 0).into());
    let handle = start(builder).await.unwrap();

    handle.ask(|reply| Request::Leave { reply }).await.unwrap();

    let stopped = tokio::time::timeout(Duration::from_secs(20), handle.stopped());
    assert_eq!(stopped.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_node_whose_driver_panics_has_failed() {
    let builder = Node::builder()
        .temporary_state()
        .listen(([127, 0, 0, 1], 0).into());
    let handle = start(builder).await.unwrap();

    let looked = handle
        .look(|_| panic!("as any bug of the driver would"))
        .await;

    assert_eq!(looked, Err(Stopped));
    let stopped = tokio::time::timeout(Duration::from_secs(20), handle.stopped());
    let error = stopped.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("had to stop"), "{error}");
}
