//! What there is in the region, and how it is listed.

use super::form::{Form, Wrong};

#[derive(Default)]
pub struct Store {
    pub instances: Vec<Inst>,
    pub groups: Vec<Group>,
    pub target_groups: Vec<Targets>,
    pub list_at_most: Option<usize>,
    pub never_ends: bool,
}

/// An instance.
#[derive(Clone, Debug)]
pub struct Inst {
    pub id: String,
    state: String,
    /// What else its element holds.
    inside: String,
    tags: Vec<(String, String)>,
}

impl Inst {
    /// One that runs at this address, which may be none.
    pub fn at(id: &str, address: &str) -> Inst {
        let inside =
            if address.is_empty() { String::new() } else { format!("<privateIpAddress>{address}</privateIpAddress>") };
        Inst { id: id.to_owned(), state: "running".to_owned(), inside, tags: Vec::new() }
    }

    pub fn is(self, state: &str) -> Inst {
        Inst { state: state.to_owned(), ..self }
    }

    pub fn holds(self, inside: &str) -> Inst {
        Inst { inside: inside.to_owned(), ..self }
    }

    pub fn tagged(mut self, key: &str, value: &str) -> Inst {
        self.tags.push((key.to_owned(), value.to_owned()));
        self
    }

    fn passes(&self, (name, values): &(String, Vec<String>)) -> Result<bool, Wrong> {
        let own: Vec<&str> = match name.as_str() {
            "instance-id" => vec![&self.id],
            "instance-state-name" => vec![&self.state],
            name => match name.strip_prefix("tag:") {
                Some(key) => self.tags.iter().filter(|(own, _)| own == key).map(|(_, value)| value.as_str()).collect(),
                None => return Err(Wrong::new("InvalidParameterValue", format!("The filter '{name}' is invalid"))),
            },
        };
        Ok(values.iter().any(|pattern| own.iter().any(|own| matches(pattern.as_bytes(), own.as_bytes()))))
    }

    fn xml(&self) -> String {
        let Inst { id, state, inside, tags } = self;
        let tag = |(key, value): &(String, String)| {
            format!("<item><key>{}</key><value>{}</value></item>", escaped(key), escaped(value))
        };
        let tags: String = tags.iter().map(tag).collect();
        format!(
            "<item><reservationId>r-1</reservationId><instancesSet><item><instanceId>{id}</instanceId><instanceState>\
             <code>16</code><name>{state}</name></instanceState>{inside}<tagSet>{tags}</tagSet></item></instancesSet></item>"
        )
    }
}

pub struct Group {
    pub name: String,
    /// The least, the desired number, the most.
    pub sizes: [u32; 3],
    pub instances: Vec<Scaled>,
}

/// An instance of an Auto Scaling group: its id, how far it is, and its health.
pub type Scaled = (&'static str, &'static str, &'static str);

pub struct Targets {
    pub arn: String,
    pub name: String,
    pub kind: String,
    pub targets: Vec<Target>,
}

/// A target: its id, its port, its state.
pub type Target = (&'static str, u16, &'static str);

impl Store {
    pub fn answer(&mut self, form: Form) -> Result<String, Wrong> {
        match form.operation() {
            "DescribeInstances" => self.describe_instances(form),
            "DescribeAutoScalingGroups" => self.describe_groups(form),
            "UpdateAutoScalingGroup" => self.update_group(form),
            "DescribeTargetGroups" => self.describe_target_groups(form),
            "DescribeTargetHealth" => self.describe_target_health(form),
            other => panic!("nobody answers {other}"),
        }
    }

    fn describe_instances(&self, mut form: Form) -> Result<String, Wrong> {
        let (filters, token) = (form.filters()?, form.take("NextToken"));
        let most: usize = form.take("MaxResults").map_or(1_000, |text| text.parse().unwrap());
        form.end()?;
        if !(5..=1_000).contains(&most) {
            return Err(Wrong::new("InvalidParameterValue", format!("{most} is no value for maxResults")));
        }
        let mut found = Vec::new();
        for instance in &self.instances {
            let passes = filters.iter().map(|filter| instance.passes(filter)).collect::<Result<Vec<_>, _>>()?;
            found.extend(passes.iter().all(|passes| *passes).then_some(instance));
        }
        // A token holds for the question that it was given to.
        let name = |at: usize| format!("{at}/{}", filters.len());
        let from = match token {
            None => 0,
            Some(token) => (0..=found.len())
                .find(|at| name(*at) == token)
                .ok_or_else(|| Wrong::new("InvalidNextToken", "The specified token is invalid"))?,
        };
        let to = found.len().min(from + most.min(self.list_at_most.unwrap_or(most)));
        let items: String = found[from..to].iter().map(|instance| instance.xml()).collect();
        let next = match to < found.len() || self.never_ends {
            true => format!("<nextToken>{}</nextToken>", name(to)),
            false => String::new(),
        };
        Ok(format!("<requestId>1</requestId><reservationSet>{items}</reservationSet>{next}"))
    }

    fn describe_groups(&self, mut form: Form) -> Result<String, Wrong> {
        let names = form.list("AutoScalingGroupNames.member");
        let most = form.take("MaxRecords").map_or(Ok(50), |text| text.parse::<usize>());
        let from = form.take("NextToken").map_or(Ok(0), |text| text.parse::<usize>());
        form.end()?;
        let (Ok(most @ 1..=100), Ok(from)) = (most, from) else {
            return Err(Wrong::new("ValidationError", "MaxRecords or NextToken is invalid"));
        };
        let most = most.min(self.list_at_most.unwrap_or(most));
        let member = |(id, lifecycle, health): &Scaled| {
            format!(
                "<member><InstanceId>{id}</InstanceId><AvailabilityZone>us-east-1a</AvailabilityZone><LifecycleState>\
                 {lifecycle}</LifecycleState><HealthStatus>{health}</HealthStatus></member>"
            )
        };
        let wanted = self.groups.iter().filter(|group| names.is_empty() || names.contains(&group.name));
        let found: Vec<&Group> = wanted.skip(from).take(most + 1).collect();
        let groups = found.iter().take(most).map(|group| {
            let [min, desired, max] = group.sizes;
            let members: String = group.instances.iter().map(member).collect();
            format!(
                "<member><AutoScalingGroupName>{}</AutoScalingGroupName><MinSize>{min}</MinSize><MaxSize>{max}</MaxSize>\
                 <DesiredCapacity>{desired}</DesiredCapacity><Instances>{members}</Instances></member>",
                group.name
            )
        });
        let groups: String = groups.collect();
        let next = if found.len() > most { format!("<NextToken>{}</NextToken>", from + most) } else { String::new() };
        Ok(format!(
            "<DescribeAutoScalingGroupsResult><AutoScalingGroups>{groups}</AutoScalingGroups>{next}\
             </DescribeAutoScalingGroupsResult>"
        ))
    }

    /// What is left out stays as it is.
    fn update_group(&mut self, mut form: Form) -> Result<String, Wrong> {
        let name = form.take("AutoScalingGroupName").unwrap_or_default();
        let sizes = ["MinSize", "DesiredCapacity", "MaxSize"].map(|field| form.take(field));
        form.end()?;
        let group = self.groups.iter_mut().find(|group| group.name == name);
        let missing = || Wrong::new("ValidationError", "AutoScalingGroup name not found - null");
        let group = group.ok_or_else(missing)?;
        let mut wanted = group.sizes;
        for (size, found) in wanted.iter_mut().zip(sizes) {
            let number = found.map(|text| text.parse().map_err(|_| Wrong::new("ValidationError", "not a number")));
            *size = number.transpose()?.unwrap_or(*size);
        }
        let [min, desired, max] = wanted;
        if !(min..=max).contains(&desired) {
            let says =
                format!("Desired capacity:{desired} must be between the specified min size:{min} and max size:{max}");
            return Err(Wrong::new("ValidationError", says));
        }
        group.sizes = wanted;
        Ok(String::new())
    }

    fn describe_target_groups(&self, mut form: Form) -> Result<String, Wrong> {
        let (names, arns) = (form.list("Names.member"), form.list("TargetGroupArns.member"));
        form.end()?;
        let is_it = |group: &&Targets| names.contains(&group.name) || arns.contains(&group.arn);
        let groups: Vec<&Targets> = self.target_groups.iter().filter(is_it).collect();
        if groups.len() < names.len() + arns.len() {
            return Err(Wrong::new("TargetGroupNotFound", "One or more target groups not found"));
        }
        let group = |Targets { arn, name, kind, .. }: &Targets| {
            format!(
                "<member><TargetGroupArn>{arn}</TargetGroupArn><TargetGroupName>{name}</TargetGroupName>\
                 <TargetType>{kind}</TargetType></member>"
            )
        };
        let groups: String = groups.into_iter().map(group).collect();
        Ok(format!("<DescribeTargetGroupsResult><TargetGroups>{groups}</TargetGroups></DescribeTargetGroupsResult>"))
    }

    fn describe_target_health(&self, mut form: Form) -> Result<String, Wrong> {
        let arn = form.take("TargetGroupArn");
        form.end()?;
        let group = self.target_groups.iter().find(|group| Some(&group.arn) == arn.as_ref());
        let group = group.ok_or_else(|| Wrong::new("TargetGroupNotFound", "One or more target groups not found"))?;
        let target = |(id, port, state): &Target| {
            format!(
                "<member><Target><Id>{id}</Id><Port>{port}</Port></Target><HealthCheckPort>{port}</HealthCheckPort>\
                 <TargetHealth><State>{state}</State></TargetHealth></member>"
            )
        };
        let targets: String = group.targets.iter().map(target).collect();
        Ok(format!(
            "<DescribeTargetHealthResult><TargetHealthDescriptions>{targets}</TargetHealthDescriptions></DescribeTargetHealthResult>"
        ))
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// As filters do: `*` is anything, `?` one character, and behind `\` either is itself.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], text) => text.is_empty(),
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|from| matches(rest, &text[from..])),
        ([b'?', rest @ ..], [_, text @ ..]) => matches(rest, text),
        ([b'\\', wanted, rest @ ..] | [wanted, rest @ ..], [found, text @ ..]) if wanted == found => {
            matches(rest, text)
        }
        _ => false,
    }
}
