//! The status page: one file, nothing loaded from elsewhere.

use axum::{
    http::{
        HeaderMap, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    response::{Html, IntoResponse},
};

/// The page shows peers' texts as text nodes only. Should that ever slip, the policy keeps the page from talking to
/// anyone but this node, and no other page can frame it.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`.
pub(super) async fn page() -> impl IntoResponse {
    let headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ]);
    (headers, Html(include_str!("page.html")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_writes_no_markup_from_data() {
        let page = include_str!("page.html");
        for sign in
            ["http://", "https://", "src=", "@import", "innerHTML", "insertAdjacentHTML", "document.write"]
        {
            assert!(!page.contains(sign), "{sign}");
        }
        assert!(page.contains("prefers-color-scheme"));
    }
}
