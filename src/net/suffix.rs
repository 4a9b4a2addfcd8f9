//! [pure] Names below which strangers register names: a wildcard over one is a wildcard over the world.
//!
//! The whole list of such names, <https://publicsuffix.org>, changes every week
//! and has ten thousand rules. This is what its rules have in common, and the
//! names that most often stand in an allow-list by mistake; it only asks for a
//! reason and decides nothing else.

use crate::net::grant::Name;

/// What stands before a country's two letters: `co.uk`, `com.au`.
const SECOND_LEVEL: &[&str] = &[
    "ac", "co", "com", "ed", "edu", "go", "gob", "gouv", "gov", "govt", "id", "info", "ltd", "me",
    "mil", "ne", "net", "nhs", "nom", "or", "org", "plc", "pp", "sch",
];

/// Where a provider gives names to anybody.
const PROVIDERS: &[&str] = &[
    "amazonaws.com",
    "appspot.com",
    "azureedge.net",
    "azurewebsites.net",
    "b-cdn.net",
    "blob.core.windows.net",
    "blogspot.com",
    "cloudapp.net",
    "cloudfront.net",
    "duckdns.org",
    "eu.org",
    "firebaseapp.com",
    "fly.dev",
    "github.io",
    "githubusercontent.com",
    "gitlab.io",
    "herokuapp.com",
    "netlify.app",
    "ngrok-free.app",
    "ngrok.app",
    "ngrok.io",
    "onrender.com",
    "pages.dev",
    "r2.dev",
    "readthedocs.io",
    "run.app",
    "s3.amazonaws.com",
    "trycloudflare.com",
    "vercel.app",
    "web.app",
    "windows.net",
    "workers.dev",
];

/// Whether anybody may have a name directly below `name`, as far as is known here.
pub fn is_public(name: &Name) -> bool {
    let name = name.as_str();
    match name.split_once('.') {
        None => true,
        Some((second, top)) if top.len() == 2 && SECOND_LEVEL.contains(&second) => true,
        Some(_) => PROVIDERS.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_and_providers_are_public_and_sites_are_not() {
        let public = |name: &str| is_public(&Name::parse(name).unwrap());
        for name in ["com", "internal", "co.uk", "com.au", "GitHub.io", "web.app"] {
            assert!(public(name), "{name}");
        }
        for name in [
            "example.com",
            "example.co.uk",
            "co.example.uk",
            "a.github.io",
            "t.co",
        ] {
            assert!(!public(name), "{name}");
        }
    }
}
