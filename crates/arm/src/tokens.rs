//! Tokens.
/// Issues and verifies tokens.
pub struct TokenAuthority {}
impl TokenAuthority {
    /// Loads or makes the key.
    pub fn load_or_make(_path: &std::path::Path) -> Result<std::sync::Arc<Self>, String> {
        Err("not built yet".into())
    }
}
