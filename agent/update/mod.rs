//! Models over MQTT that cannot be forged and cannot brick a gateway.
//!
//! The way of an update, in this order:
//! 1. [`admission`]: what is wanted is small enough, signed by somebody who is trusted ([`trust`]), well-formed ([`release`]), for here
//!    and now, not older than the floor, and there is room for it.
//! 2. [`transfer`]: the [`index`] comes, then the chunks that the [`store`] has not got, a few at a time and no faster than allowed.
//! 3. [`store`]: the bundle is made in the slot that is free; each file must have the hash that was signed; its structure is vetted.
//! 4. [`prove`]: it answers its golden vectors in a process of its own, then sees live frames there ([`tap`], [`shadow`]).
//! 5. Trial: the floor rises, the [`ledger`] names it as active, and the pipeline takes it up between two frames; the one before comes back
//!    by itself where it fails, hangs, is too slow, or ends the agent ([`boot`]).
//! 6. It is committed.
//!
//! The [`updater`] does all this; each step is in the ledger before it counts.

pub mod admission;
pub mod boot;
pub mod desk;
pub(crate) mod disk;
pub mod index;
pub mod ledger;
mod made;
pub mod prove;
pub mod release;
pub mod reported;
pub mod shadow;
pub mod store;
pub mod tap;
pub mod transfer;
pub mod trust;
pub mod updater;
