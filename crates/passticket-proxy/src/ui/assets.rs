//! The style sheet, the script and the icon. The name of each file contains a hash of its content. So browsers can keep
//! the file for a year, and fetch a new file after an update.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

pub(super) struct Asset {
    /// The name with the hash, such as `page-0123456789abcdef.css`.
    pub(super) name: String,
    pub(super) content_type: &'static str,
    pub(super) content: &'static [u8],
}

pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("page", "css", "text/css; charset=utf-8", include_bytes!("assets/page.css"))
});

pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("page", "js", "text/javascript; charset=utf-8", include_bytes!("assets/page.js"))
});

pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_bytes!("assets/icon.svg")));

impl Asset {
    fn new(name: &str, ending: &str, content_type: &'static str, content: &'static [u8]) -> Self {
        let hash = Sha256::digest(content);
        let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { name: format!("{name}-{hash}.{ending}"), content_type, content }
    }

    pub(super) fn find(name: &str) -> Option<&'static Self> {
        let all: [&Self; 3] = [&STYLE, &SCRIPT, &ICON];
        all.into_iter().find(|asset| asset.name == name)
    }
}
