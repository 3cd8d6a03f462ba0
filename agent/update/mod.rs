//! Models over MQTT that cannot be forged and cannot brick a gateway.
//!
//! The way of an update: what is wanted ([`admission`]) names a signed [`release`]; its [`index`] says of which chunks the
//! bundle is made, the [`store`] has them and makes the bundle.

pub mod admission;
pub mod boot;
pub mod desk;
mod disk;
mod fail;
pub mod index;
pub mod ledger;
pub mod prove;
pub mod release;
pub mod reported;
pub mod shadow;
pub mod store;
pub mod tap;
pub mod transfer;
pub mod trust;
pub mod updater;
