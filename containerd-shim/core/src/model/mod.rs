//! The broker's vocabulary: values that were checked when they were made.

mod bounds;
mod container;
mod id;
mod label;
mod service;
mod state;

pub use bounds::{LogLines, OutOfRange, StopTimeout};
pub use container::{Container, Observed, Stats};
pub use id::{ContainerId, InvalidContainerId};
pub use label::{InvalidLabel, LabelKey, LabelValue, Ownership};
pub use service::{InvalidServiceName, ServiceName};
pub use state::{ContainerState, Health};
