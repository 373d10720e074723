//! Data sets: their contract, and those that are made of others.

mod composed;
mod contract;
