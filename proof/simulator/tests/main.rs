//! A short form of the campaigns, in a build without optimisation, and how honest the models are.

mod honesty;
mod mistakes;
mod seeds;
