//! What the tests need on the machine besides Rust: installed as root on Debian, named elsewhere.
//!
//! It never removes or upgrades anything, and asks the package manager only when something is missing.
//! Called by `test` before anything is built.
//! Invariant: the tests start only when every program they call is there.

use std::process::{Command, Stdio};

use crate::process::{find, succeeds};

/// A program the tests call, an element of GStreamer (`gst:NAME`), or a library that Debian's Python knows (`gi:NAME`),
/// and the Debian package that has it.
#[derive(Debug, PartialEq, Eq)]
struct Need {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        program: "ffmpeg",
        package: "ffmpeg",
        why: "a real player and publisher",
    },
    Need {
        program: "ffprobe",
        package: "ffmpeg",
        why: "a second opinion on what we write",
    },
    Need {
        program: "g++",
        package: "g++",
        why: "live555, with which VLC plays RTSP",
    },
    Need {
        program: "pip3",
        package: "python3-pip",
        why: "the source of live555",
    },
    Need {
        program: "npm",
        package: "npm",
        why: "the page is built anew and compared",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "chromium",
        package: "chromium",
        why: "a real browser",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "gst-launch-1.0",
        package: "gstreamer1.0-tools",
        why: "another player and publisher",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "gst:rtspclientsink",
        package: "gstreamer1.0-rtsp",
        why: "its RTSP publisher",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "gst:opusdec",
        package: "gstreamer1.0-plugins-base",
        why: "its decoder of Opus",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "gst:rtspsrc",
        package: "gstreamer1.0-plugins-good",
        why: "its RTSP player",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "gst:h265parse",
        package: "gstreamer1.0-plugins-bad",
        why: "its parsers",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "gst:avdec_h264",
        package: "gstreamer1.0-libav",
        why: "its decoders",
    },
    Need {
        program: "openssl",
        package: "openssl",
        why: "a client of RTSP by TLS that is not ours",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "cvlc",
        package: "vlc-bin",
        why: "what VLC finds by SAP",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "vlc:services_discovery/libsap_plugin.so",
        package: "vlc-plugin-base",
        why: "VLC's SAP, and what it plays with",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "gi:Gst",
        package: "python3-gi",
        why: "GStreamer for Python",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "gi:GstRtspServer",
        package: "gir1.2-gst-rtsp-server-1.0",
        why: "its RTSP server",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "ip",
        package: "iproute2",
        why: "network namespaces",
    },
    #[cfg(target_os = "linux")]
    Need {
        program: "nft",
        package: "nftables",
        why: "loss and cuts in those networks",
    },
];

/// What to do about what is missing.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    Install(Vec<&'static str>),
    Say(String),
}

/// Makes sure that every program is there, or says exactly which is not and how to get it.
pub(crate) fn meet() -> anyhow::Result<()> {
    let root = is_root();
    match plan(&missing(), root, find("apt-get").is_some()) {
        Plan::Nothing => {}
        Plan::Install(packages) => install(&packages)?,
        Plan::Say(text) => anyhow::bail!(text),
    }
    if cfg!(target_os = "linux") && !root {
        println!(
            "The tests in crates/lab make network namespaces and need root: they will fail and say so."
        );
    }
    Ok(())
}

fn missing() -> Vec<&'static Need> {
    NEEDS
        .iter()
        .filter(|need| !is_there(need.program))
        .collect()
}

fn is_there(program: &str) -> bool {
    let mut look = if let Some(element) = program.strip_prefix("gst:") {
        let mut look = Command::new("gst-inspect-1.0");
        look.args(["--exists", element]);
        look
    } else if let Some(library) = program.strip_prefix("gi:") {
        let mut look = Command::new("/usr/bin/python3");
        let text = format!("import gi; gi.require_version('{library}', '1.0')");
        look.args(["-c", &text]).stderr(Stdio::null());
        look
    } else if let Some(plugin) = program.strip_prefix("vlc:") {
        // By architecture: /usr/lib/x86_64-linux-gnu/vlc/plugins on a PC.
        let of = |folder: std::fs::DirEntry| folder.path().join("vlc/plugins").join(plugin);
        let mut folders = std::fs::read_dir("/usr/lib")
            .into_iter()
            .flatten()
            .flatten();
        return folders.any(|folder| of(folder).is_file());
    } else {
        return find(program).is_some();
    };
    look.status().is_ok_and(|status| status.success())
}

fn plan(missing: &[&Need], root: bool, has_apt: bool) -> Plan {
    if missing.is_empty() {
        return Plan::Nothing;
    }
    let mut packages: Vec<&'static str> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    if root && has_apt {
        return Plan::Install(packages);
    }
    let named: Vec<String> = missing
        .iter()
        .map(|need| format!("{} ({})", need.program, need.why))
        .collect();
    let packages = packages.join(" ");
    let cure = if has_apt {
        format!("Run: sudo apt-get update && sudo apt-get install -y {packages}")
    } else {
        format!("Install them with your package manager; Debian calls the packages: {packages}")
    };
    Plan::Say(format!(
        "the tests need what is not on this machine: {}. {cure}",
        named.join(", ")
    ))
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let apt = |arguments: &[&str]| {
        succeeds(
            Command::new("apt-get")
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    let install: Vec<&str> = ["install", "-y", "--no-install-recommends"]
        .into_iter()
        .chain(packages.iter().copied())
        .collect();
    let done = apt(&["update"])? && apt(&install)?;
    anyhow::ensure!(
        done && missing().is_empty(),
        "could not install {}",
        packages.join(" ")
    );
    Ok(())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FFMPEG: Need = Need {
        program: "ffmpeg",
        package: "ffmpeg",
        why: "a player",
    };
    const FFPROBE: Need = Need {
        program: "ffprobe",
        package: "ffmpeg",
        why: "a check",
    };
    const NFT: Need = Need {
        program: "nft",
        package: "nftables",
        why: "loss",
    };

    #[test]
    fn a_complete_machine_needs_nothing() {
        assert_eq!(plan(&[], true, true), Plan::Nothing);
        assert_eq!(plan(&[], false, false), Plan::Nothing);
    }

    #[test]
    fn root_on_debian_installs_each_missing_package_once() {
        assert_eq!(
            plan(&[&FFMPEG, &FFPROBE, &NFT], true, true),
            Plan::Install(vec!["ffmpeg", "nftables"])
        );
    }

    #[test]
    fn anyone_else_is_told_what_is_missing_and_the_command() {
        let Plan::Say(text) = plan(&[&NFT], false, true) else {
            panic!("must not install")
        };

        assert!(text.contains("nft (loss)"), "{text}");
        assert!(text.contains("sudo apt-get install -y nftables"), "{text}");
    }

    #[test]
    fn without_apt_even_root_is_only_told() {
        let Plan::Say(text) = plan(&[&NFT], true, false) else {
            panic!("must not install")
        };

        assert!(text.contains("your package manager"), "{text}");
    }
}
