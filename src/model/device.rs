//! Where tensors live and products are made. The processor is the first device: kernels of ours run there; on any other,
//! the same functions in candle's ops.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Device as asked for with `--device` or in a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first CUDA device, or else Metal, where the build has them and there is one; the processor otherwise.
    #[default]
    Auto,
    /// The CPU, with our own kernels.
    Cpu,
    /// The CUDA GPU with this number, from 0.
    Cuda(usize),
    /// The GPU of an Apple computer.
    Metal,
}

impl DeviceChoice {
    /// Opens the device.
    pub fn open(self) -> Result<Device> {
        let built = |has: bool, feature: &str| match has {
            true => Ok(()),
            false => Err(Error::usage(format!(
                "this build has no `{feature}`: build it with `cargo build --release --features {feature}`, or give \
                 --device cpu"
            ))),
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => {
                built(cfg!(feature = "cuda"), "cuda")?;
                Device::new_cuda(number)
                    .map_err(|e| Error::usage(format!("the device cuda:{number} cannot be opened: {e}")))
            }
            Self::Metal => {
                built(cfg!(feature = "metal"), "metal")?;
                Device::new_metal(0).map_err(|e| Error::usage(format!("the device metal cannot be opened: {e}")))
            }
            Self::Auto => {
                let cuda = || cfg!(feature = "cuda").then(|| Device::new_cuda(0).ok()).flatten();
                let metal = || cfg!(feature = "metal").then(|| Device::new_metal(0).ok()).flatten();
                Ok(cuda().or_else(metal).unwrap_or(Device::Cpu))
            }
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').map_or((text, None), |(kind, number)| (kind, Some(number))) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("metal", None) => Ok(Self::Metal),
            ("cuda", None) => Ok(Self::Cuda(0)),
            ("cuda", Some(number)) => number
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("`{number}` is not the number of a CUDA device; give e.g. cuda:0")),
            _ => Err(format!("unknown device `{text}`; devices: auto, cpu, cuda, cuda:N, metal")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(device: DeviceChoice) -> Self {
        device.to_string()
    }
}

/// Name of a device as messages and manifests have it: `cpu`, `cuda:0` or `metal`.
pub fn name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { .. } => "metal".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3", "metal"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for bad in ["gpu", "cuda:x", "cuda:-1", "cpu:0", ""] {
            assert!(bad.parse::<DeviceChoice>().is_err(), "{bad}");
        }
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn a_device_that_the_build_lacks_is_refused_by_its_feature() {
        assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
        for (device, feature) in [(DeviceChoice::Cuda(0), "cuda"), (DeviceChoice::Metal, "metal")] {
            let error = device.open().unwrap_err().to_string();
            assert!(error.contains(&format!("--features {feature}")), "{error}");
        }
    }
}
