//! The management API.
pub mod backend;
pub mod tokens;

/// The management API as a router.
pub fn router(_backend: std::sync::Arc<dyn backend::Backend>, _tokens: std::sync::Arc<tokens::TokenAuthority>) -> axum::Router {
    axum::Router::new()
}
