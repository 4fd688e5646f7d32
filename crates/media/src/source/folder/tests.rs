//! Folders whose files come, go and change; tokio's clock jumps to the next look.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

static CLIP: &[u8] = include_bytes!("../../../assets/testcard.ts");

async fn open(folder: &Path) -> Result<Catalogue, Error> {
    Catalogue::open(Request {
        text: folder.to_str().unwrap().to_owned(),
        name: "tv".parse().unwrap(),
        options: Options::default(),
    })
    .await
}

fn names(streams: &[(StreamName, Box<dyn Source>)]) -> Vec<&str> {
    streams.iter().map(|(name, _)| name.as_str()).collect()
}

/// What changes next, in a word.
async fn change(catalogue: &mut Catalogue) -> String {
    match catalogue.next().await {
        Change::Added(name, _) => format!("+{name}"),
        Change::Removed(name) => format!("-{name}"),
    }
}

#[tokio::test]
async fn each_file_is_a_stream_and_what_is_no_media_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b é.ts", "a.TS", "a.m2ts"] {
        std::fs::write(folder.path().join(name), CLIP).unwrap();
    }
    std::fs::write(folder.path().join("c.ts"), "").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no media").unwrap();

    let mut catalogue = open(folder.path()).await.unwrap();

    assert_eq!(names(&catalogue.take_first()), ["tv/a", "tv/b--"]);
}

#[tokio::test]
async fn a_folder_without_media_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();

    let error = open(folder.path()).await.unwrap_err().to_string();

    assert!(
        error.contains(&folder.path().display().to_string()),
        "{error}"
    );
    assert!(error.contains(".m2ts"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn files_that_come_change_and_go_are_streams_that_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("a.ts"), CLIP).unwrap();
    let mut catalogue = open(folder.path()).await.unwrap();
    assert_eq!(names(&catalogue.take_first()), ["tv/a"]);

    std::fs::write(at("b.ts"), CLIP).unwrap();
    assert_eq!(change(&mut catalogue).await, "+tv/b");
    std::fs::write(at("a.ts"), &CLIP[..CLIP.len() / 2]).unwrap();
    assert_eq!(change(&mut catalogue).await, "-tv/a");
    assert_eq!(change(&mut catalogue).await, "+tv/a");
    std::fs::remove_file(at("b.ts")).unwrap();
    assert_eq!(change(&mut catalogue).await, "-tv/b");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_grows_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("a.ts"), CLIP).unwrap();
    let mut catalogue = open(folder.path()).await.unwrap();
    catalogue.take_first();

    std::fs::write(at("b.ts"), &CLIP[..CLIP.len() / 2]).unwrap();
    catalogue.look().await;
    std::fs::write(at("b.ts"), CLIP).unwrap();
    catalogue.look().await;

    assert!(catalogue.changes.is_empty());
    catalogue.look().await;
    assert_eq!(change(&mut catalogue).await, "+tv/b");
}

#[tokio::test]
async fn more_files_than_the_limit_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for at in 0..=FILES_MAX {
        std::fs::write(folder.path().join(format!("{at}.ts")), CLIP).unwrap();
    }

    let mut catalogue = open(folder.path()).await.unwrap();

    assert_eq!(catalogue.take_first().len(), FILES_MAX);
    catalogue.look().await;
    assert!(catalogue.changes.is_empty());
}
