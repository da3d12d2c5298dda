//! Enums that are written as strings.

/// Declares an enum whose variants have one string each, with `ALL`, `as_str` and `Display`. `ALL`
/// has every variant, in the order of the declaration, because both come from one list.
macro_rules! string_enum {
    (
        $(#[$doc:meta])*
        pub enum $type:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $type { $($(#[$word_doc])* $variant,)+ }

        impl $type {
            /// All variants, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The string that records have for this variant.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
