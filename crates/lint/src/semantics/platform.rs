//! Predefined variables of a platform, and which platform a recipe is for.

use super::Env;
use dockerfile::{Escape, Recipe, Stage};
use oci::Platform;

/// Variables that exist without being declared.
pub fn arguments(platform: &Platform, last: Option<&Stage>) -> Env {
    let target = last.and_then(|stage| stage.name.as_deref()).unwrap_or("default");
    let variant = platform.variant.clone().unwrap_or_default();
    let mut env = Env::default();
    for side in ["BUILD", "TARGET"] {
        let mut set = |name: &str, value: &str| env.0.insert(format!("{side}{name}"), value.to_owned());
        set("PLATFORM", &platform.short());
        set("OS", &platform.os);
        set("OSVERSION", "");
        set("ARCH", &platform.architecture);
        set("VARIANT", &variant);
    }
    env.0.insert("TARGETSTAGE".to_owned(), target.to_owned());
    env
}

/// Whether an image's name says that it is a Windows image.
pub(crate) fn is_windows_image(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["windows", "nanoserver", "servercore", "microsoft/iis", "mcr.microsoft.com/powershell:nano"]
        .iter()
        .any(|word| name.contains(word))
}

/// The platform a recipe is for: Windows where it uses the escape character or the base images of Windows,
/// else `linux/amd64`.
pub fn guess(recipe: &Recipe) -> Platform {
    let windows = recipe.directives.escape == Escape::Backtick
        || recipe.stages.iter().any(|stage| is_windows_image(stage.base()));
    Platform::new(if windows { "windows" } else { "linux" }, "amd64")
}
