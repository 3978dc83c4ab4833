//! IPv4 ranges, and the choice of one that the host does not use.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A range of addresses: a network address and its length in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

/// Text that is no range.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no IPv4 range such as 10.10.0.0/16")]
pub struct NotASubnet(String);

impl Subnet {
    /// The range that an address with a prefix length lies in.
    pub fn containing(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        let network = Ipv4Addr::from_bits(address.to_bits() & mask(prefix));
        Self { network, prefix }
    }

    /// Length of the network part in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The address of the network itself.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The first host address, which the bridge has.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1)
    }

    /// The last address, which means everybody.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !mask(self.prefix))
    }

    /// Whether an address lies in the range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.network.to_bits()
    }

    /// Whether two ranges share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// The addresses that containers can have, lowest first.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        let first = self.gateway().to_bits() + 1;
        (first..self.broadcast().to_bits()).map(Ipv4Addr::from_bits)
    }

    /// The range mybox prefers.
    pub fn preferred() -> Self {
        Self::containing(Ipv4Addr::new(10, 10, 0, 0), 16)
    }

    /// The first of the private ranges (RFC 1918) that overlaps none of `taken`: the preferred
    /// one, the rest of 10/8 after it, 172.16/12, then 192.168/16 in smaller pieces.
    pub fn first_free(taken: &[Self]) -> Option<Self> {
        let preferred = std::iter::once(Self::preferred());
        let tens = (11..=255)
            .chain(0..10)
            .map(|n| Self::containing([10, n, 0, 0].into(), 16));
        let seventeens = (17..=31).map(|n| Self::containing([172, n, 0, 0].into(), 16));
        let nineteens = (0..=255).map(|n| Self::containing([192, 168, n, 0].into(), 24));
        preferred
            .chain(tens)
            .chain(seventeens)
            .chain(nineteens)
            .find(|range| !taken.iter().any(|used| used.overlaps(*range)))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = NotASubnet;

    fn from_str(text: &str) -> Result<Self, NotASubnet> {
        let parse = || {
            let (network, prefix) = text.split_once('/')?;
            let prefix = prefix
                .parse()
                .ok()
                .filter(|prefix| (1..=30).contains(prefix))?;
            let range = Self::containing(network.parse().ok()?, prefix);
            (range.network.to_string() == network).then_some(range)
        };
        parse().ok_or_else(|| NotASubnet(text.to_owned()))
    }
}

impl serde::Serialize for Subnet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Subnet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_and_know_their_addresses() {
        let ten = range("10.10.0.0/16");
        assert_eq!(ten.gateway(), Ipv4Addr::new(10, 10, 0, 1));
        assert_eq!(ten.broadcast(), Ipv4Addr::new(10, 10, 255, 255));
        assert_eq!(ten.hosts().next(), Some(Ipv4Addr::new(10, 10, 0, 2)));
        assert_eq!(ten.hosts().count(), 65_533);
        assert_eq!(ten.to_string(), "10.10.0.0/16");
        for bad in [
            "10.10.0.0",
            "10.10.0.1/16",
            "10.10.0.0/33",
            "x/8",
            "10.0.0.0/0",
        ] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_free_range_overlaps_nothing() {
        assert_eq!(Subnet::first_free(&[]), Some(Subnet::preferred()));
        assert_eq!(
            Subnet::first_free(&[range("10.10.7.0/24")]),
            Some(range("10.11.0.0/16"))
        );
        assert_eq!(
            Subnet::first_free(&[range("10.0.0.0/8")]),
            Some(range("172.17.0.0/16"))
        );
        let all = [
            range("10.0.0.0/8"),
            range("172.16.0.0/12"),
            range("192.168.0.0/16"),
        ];
        assert_eq!(Subnet::first_free(&all), None);
    }
}
