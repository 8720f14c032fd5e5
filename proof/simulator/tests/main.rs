//! A short form of the campaigns, in a build without optimisation.

mod mistakes;
mod seeds;
