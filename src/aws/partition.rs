//! Amazon's partitions: worlds apart, each with regions, names and domains of its own.

use super::call::Service;

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Partition {
    /// As ARNs have it.
    pub name: &'static str,
    domain: &'static str,
    dual_stack_domain: &'static str,
    /// How its regions begin.
    regions: &'static str,
}

impl Partition {
    /// A region that is not known is a new one of the commercial partition.
    pub fn of(region: Option<&str>) -> &'static Partition {
        let has = |partition: &&Partition| region.is_some_and(|region| region.starts_with(partition.regions));
        OTHERS.iter().find(has).unwrap_or(&COMMERCIAL)
    }
}

/// Where requests go that no `endpoint_url` leads elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub fips: bool,
    pub dual_stack: bool,
}

/// The address of a service in a region, by the rules that Amazon publishes for EC2, Auto Scaling and load balancing alike.
pub fn endpoint(service: Service, region: &str, Variant { fips, dual_stack }: Variant) -> String {
    let partition = Partition::of(Some(region));
    let domain = if dual_stack { partition.dual_stack_domain } else { partition.domain };
    // GovCloud's plain addresses are validated ones.
    let plain = !fips || (partition.name == "aws-us-gov" && !dual_stack);
    format!("https://{}{}.{region}.{domain}", service.prefix(), if plain { "" } else { "-fips" })
}

const COMMERCIAL: Partition =
    Partition { name: "aws", domain: "amazonaws.com", dual_stack_domain: "api.aws", regions: "" };
const OTHERS: [Partition; 7] = [
    Partition {
        name: "aws-cn",
        domain: "amazonaws.com.cn",
        dual_stack_domain: "api.amazonwebservices.com.cn",
        regions: "cn-",
    },
    Partition { name: "aws-us-gov", domain: "amazonaws.com", dual_stack_domain: "api.aws", regions: "us-gov-" },
    Partition {
        name: "aws-eusc",
        domain: "amazonaws.eu",
        dual_stack_domain: "api.amazonwebservices.eu",
        regions: "eusc-",
    },
    Partition { name: "aws-iso", domain: "c2s.ic.gov", dual_stack_domain: "api.aws.ic.gov", regions: "us-iso-" },
    Partition { name: "aws-iso-b", domain: "sc2s.sgov.gov", dual_stack_domain: "api.aws.scloud", regions: "us-isob-" },
    Partition {
        name: "aws-iso-e",
        domain: "cloud.adc-e.uk",
        dual_stack_domain: "api.cloud-aws.adc-e.uk",
        regions: "eu-isoe-",
    },
    Partition {
        name: "aws-iso-f",
        domain: "csp.hci.ic.gov",
        dual_stack_domain: "api.aws.hci.ic.gov",
        regions: "us-isof-",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_stands_where_amazons_rules_say() {
        let plain = Variant { fips: false, dual_stack: false };
        let fips = Variant { fips: true, ..plain };
        let both = Variant { fips: true, dual_stack: true };
        for (service, region, variant, expected) in [
            (Service::Ec2, "eu-west-1", plain, "https://ec2.eu-west-1.amazonaws.com"),
            (Service::AutoScaling, "cn-north-1", plain, "https://autoscaling.cn-north-1.amazonaws.com.cn"),
            (
                Service::LoadBalancing,
                "us-gov-west-1",
                plain,
                "https://elasticloadbalancing.us-gov-west-1.amazonaws.com",
            ),
            (Service::Ec2, "us-isob-east-1", plain, "https://ec2.us-isob-east-1.sc2s.sgov.gov"),
            (Service::Ec2, "eusc-de-east-1", plain, "https://ec2.eusc-de-east-1.amazonaws.eu"),
            (Service::Ec2, "us-east-1", fips, "https://ec2-fips.us-east-1.amazonaws.com"),
            (Service::Ec2, "us-gov-east-1", fips, "https://ec2.us-gov-east-1.amazonaws.com"),
            (Service::Ec2, "us-gov-east-1", both, "https://ec2-fips.us-gov-east-1.api.aws"),
            (
                Service::AutoScaling,
                "eu-west-1",
                Variant { dual_stack: true, ..plain },
                "https://autoscaling.eu-west-1.api.aws",
            ),
        ] {
            assert_eq!(endpoint(service, region, variant), expected);
        }
    }

    #[test]
    fn a_partition_is_known_by_how_its_regions_begin() {
        for (region, name) in [
            (None, "aws"),
            (Some("us-east-1"), "aws"),
            (Some("xx-new-1"), "aws"),
            (Some("cn-northwest-1"), "aws-cn"),
            (Some("us-gov-west-1"), "aws-us-gov"),
            (Some("us-iso-east-1"), "aws-iso"),
            (Some("us-isof-south-1"), "aws-iso-f"),
            (Some("eu-isoe-west-1"), "aws-iso-e"),
        ] {
            assert_eq!(Partition::of(region).name, name, "{region:?}");
        }
    }
}
