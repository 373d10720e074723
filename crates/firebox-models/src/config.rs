//! Settings that can be saved, and read under their old names.

/// Gives a struct of settings what Burn's `Config` derives: `new`, a setter for each default, JSON as text.
///
/// Burn's derive keeps a field's attributes from serde. Here the struct derives serde's traits itself, so that a
/// setting that has been renamed reads its old name (`#[serde(alias)]`). Fields without a default come first, as
/// the arguments of `new`; each other one is followed by its default and its setter's name.
macro_rules! config {
    (
        $name:ident {
            $($required:ident: $required_type:ty),* $(,)?
            ; $($field:ident: $type:ty = $default:expr, $setter:ident;)*
        }
    ) => {
        impl $name {
            /// The settings with these values, and the defaults of all others.
            #[allow(clippy::new_without_default, reason = "as Burn's configs")]
            pub fn new($($required: $required_type),*) -> Self {
                Self { $($required,)* $($field: $default),* }
            }

            $(
                #[doc = concat!(
                    "Sets [`", stringify!($field), "`](Self::", stringify!($field), "); by default it is `",
                    stringify!($default), "`."
                )]
                pub fn $setter(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }

        impl burn::config::Config for $name {}

        /// JSON.
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&burn::config::config_to_json(self))
            }
        }
    };
}

pub(crate) use config;
