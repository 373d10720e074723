//! Attention over sequences.

pub(crate) mod attention_block;
pub(crate) mod multi_head_attention;
