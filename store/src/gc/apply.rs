//! Carries a plan out, while nobody changes the index.

use std::collections::{HashMap, HashSet};

use super::{DoomedImage, DoomedObject, GcOptions, GcPlan, Planner, WhyGone};
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::index::LockedIndex;
use crate::layout::Store;
use crate::object::{Condemned, Object, Verdict};
use crate::survey::{self, Survey, Use, Uses};
use crate::{dir, ingest};

/// What a collection did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// The plan that was carried out.
    pub plan: GcPlan,
    /// Objects of it that were in use by then, or gone, and were left.
    pub left: Vec<Object>,
    /// Bytes the filesystem has got back.
    pub freed_bytes: u64,
}

/// Objects that are locked at once, at least while each image goes as a whole.
const PART: usize = 500;

impl Collected {
    /// To be added to.
    fn nothing_of(plan: &GcPlan) -> Self {
        Self {
            plan: plan.with(Vec::new(), Vec::new()),
            left: Vec::new(),
            freed_bytes: 0,
        }
    }

    fn add(&mut self, part: Self) {
        self.plan.images.extend(part.plan.images);
        self.plan.objects.extend(part.plan.objects);
        self.left.extend(part.left);
        self.freed_bytes += part.freed_bytes;
    }
}

impl GcPlan {
    fn with(&self, images: Vec<DoomedImage>, objects: Vec<DoomedObject>) -> Self {
        Self {
            images,
            objects,
            lean: self.lean.clone(),
            ..*self
        }
    }

    /// The plan in pieces of about so many objects, to be carried out in this order: an object goes
    /// with the last of the images that need it.
    fn parts(&self, most: usize) -> Vec<Self> {
        let mut of_images: HashMap<Digest, Vec<DoomedObject>> = HashMap::new();
        let mut others = Vec::new();
        for object in &self.objects {
            match object.why {
                WhyGone::OfImage(image) => {
                    of_images.entry(image).or_default().push(object.clone());
                }
                _ => others.push(object.clone()),
            }
        }
        let pieces = others.chunks(most);
        let mut parts: Vec<Self> = pieces
            .map(|objects| self.with(Vec::new(), objects.to_vec()))
            .collect();
        for image in &self.images {
            let objects = of_images.remove(&image.digest).unwrap_or_default();
            let room = |part: &&mut Self| part.objects.len() + objects.len() <= most;
            match parts.last_mut().filter(room) {
                Some(part) => {
                    part.images.push(image.clone());
                    part.objects.extend(objects);
                }
                None => parts.push(self.with(vec![image.clone()], objects)),
            }
        }
        parts
    }
}

impl Store {
    /// Plans a collection and carries it out. What comes into use in between is left.
    pub fn gc(&self, uses: Uses<'_>, options: &GcOptions) -> Result<Collected> {
        let mut locked = self.lock_index()?;
        let mut spared = HashSet::new();
        let mut collected: Option<Collected> = None;
        loop {
            let survey = self.survey_of(&locked.index, uses)?;
            let plan = Planner::new(self, &survey, options).plan(&spared)?;
            let done = collected.get_or_insert_with(|| Collected::nothing_of(&plan));
            let in_use = self.gc_by_parts(&mut locked, uses, plan, done)?;
            match (in_use, collected.take()) {
                (None, Some(done)) => return Ok(done),
                // Images that have come into use keep all they need: planned again without them.
                (in_use, done) => {
                    spared.extend(in_use.into_iter().flatten());
                    collected = done;
                }
            }
        }
    }

    /// Carries out a plan part by part, each of no more objects than a process may have open. Stops
    /// where something has come into use; the images that need it.
    fn gc_by_parts(
        &self,
        locked: &mut LockedIndex<'_>,
        uses: Uses<'_>,
        plan: GcPlan,
        done: &mut Collected,
    ) -> Result<Option<Vec<Digest>>> {
        for part in plan.parts(PART) {
            let judged = self.condemn_all(&part)?;
            // Asked again: with the manifests locked no container can begin any more.
            let in_use = judged.images_in_use(&part, &survey::ask(uses)?);
            if !in_use.is_empty() {
                return Ok(Some(in_use));
            }
            done.add(self.carry_out_all(locked, part, judged)?);
        }
        Ok(None)
    }

    /// Carries out a plan that was kept: all of it, or nothing if any of its objects was used or has
    /// become needed since, or is in use.
    pub fn gc_apply(&self, uses: Uses<'_>, id: &str) -> Result<Collected> {
        let plan = self.kept_plan(id)?;
        let mut locked = self.lock_index()?;
        let judged = self.condemn_all(&plan)?;
        let survey = self.survey_of(&locked.index, uses)?;
        if let Some((object, reason)) = judged.in_the_way().or_else(|| survey.in_the_way(&plan)) {
            return Err(Error::StalePlan {
                id: id.to_owned(),
                object,
                reason,
            });
        }
        let collected = self.carry_out_all(&mut locked, plan, judged)?;
        let name = std::ffi::CString::new(ingest::plan_name(id)).unwrap_or_default();
        dir::remove(self.ingest(), &name).on("remove", || self.plan_path(id))?;
        Ok(collected)
    }

    fn condemn_all(&self, plan: &GcPlan) -> Result<Judged> {
        let mut judged = Judged::default();
        for doomed in &plan.objects {
            match self.condemn(doomed.object)? {
                Verdict::Condemned(one) => judged.condemned.push(one),
                Verdict::Held => judged.held.push(doomed.object),
                Verdict::Gone => judged.gone.push(doomed.object),
            }
        }
        Ok(judged)
    }

    fn carry_out_all(
        &self,
        locked: &mut LockedIndex<'_>,
        plan: GcPlan,
        judged: Judged,
    ) -> Result<Collected> {
        if !plan.images.is_empty() || !plan.lean.is_empty() {
            let images = plan.images.iter();
            images.for_each(|image| locked.index.remove(image.digest));
            let lean = plan.lean.iter();
            lean.for_each(|entry| locked.index.allow_dropped(*entry));
            locked.save()?;
        }
        let freed_bytes = self.carry_out(judged.condemned)?;
        rustix::fs::fsync(self.blobs()).on_path("flush", self.root())?;
        Ok(Collected {
            plan,
            left: [judged.held, judged.gone].concat(),
            freed_bytes,
        })
    }
}

/// A plan's objects, each with or without its lock.
#[derive(Default)]
struct Judged {
    condemned: Vec<Condemned>,
    held: Vec<Object>,
    gone: Vec<Object>,
}

impl Judged {
    /// The images of a plan that need something which is in use, or that containers are made of.
    fn images_in_use(&self, plan: &GcPlan, uses: &[Use]) -> Vec<Digest> {
        let manifests = uses.iter().map(|one| Object::Blob(one.manifest));
        let in_use: HashSet<Object> = self.held.iter().copied().chain(manifests).collect();
        let objects = plan.objects.iter();
        objects
            .filter(|doomed| in_use.contains(&doomed.object))
            .filter_map(|doomed| match doomed.why {
                WhyGone::OfImage(image) => Some(image),
                _ => None,
            })
            .collect()
    }

    /// What is in use, and so keeps the plan from being carried out.
    fn in_the_way(&self) -> Option<(String, String)> {
        let held = self.held.first()?;
        Some((held.to_string(), "a process has it in use".to_owned()))
    }
}

impl Survey {
    /// What keeps a plan from being carried out, and why.
    fn in_the_way(&self, plan: &GcPlan) -> Option<(String, String)> {
        if let Some(damage) = self.catalog.damage.first() {
            let reason = format!(
                "it cannot be read ({}), and may need anything",
                damage.error
            );
            return Some((format!("image {}", damage.digest), reason));
        }
        let needed = self.needed_without(plan);
        let images = plan.images.iter().filter_map(|image| {
            let reason = image.kept_by(self)?;
            Some((format!("image {}", image.digest), reason))
        });
        let lean = self.droppable_by(plan);
        let objects = plan.objects.iter().filter_map(|doomed| {
            let reason = match doomed.why {
                WhyGone::Compressed if lean.contains(&doomed.object) => return None,
                _ => doomed.kept_by(self, &needed)?,
            };
            Some((doomed.object.to_string(), reason))
        });
        images.chain(objects).next()
    }

    /// The compressed blobs that no entry needs but those which a plan takes something from.
    fn droppable_by(&self, plan: &GcPlan) -> HashSet<Object> {
        let images = plan.images.iter().map(|image| image.digest);
        let planned: HashSet<Digest> = images.chain(plan.lean.iter().copied()).collect();
        let droppable = self.droppable().into_iter();
        droppable
            .filter(|(_, entries)| entries.iter().all(|entry| planned.contains(entry)))
            .map(|(blob, _)| Object::Blob(blob))
            .collect()
    }

    /// What the other entries need when the plan's images are gone.
    fn needed_without(&self, plan: &GcPlan) -> HashMap<Object, Digest> {
        let going: HashSet<Digest> = plan.images.iter().map(|image| image.digest).collect();
        let images = self.by_manifest();
        let mut needed = HashMap::new();
        for root in &self.catalog.roots {
            if going.contains(&root.digest()) {
                continue;
            }
            let objects = root.objects(&images).into_iter();
            needed.extend(objects.map(|object| (object, root.digest())));
        }
        needed
    }
}

impl DoomedImage {
    /// Why it must stay after all. One that is gone already may go.
    fn kept_by(&self, survey: &Survey) -> Option<String> {
        let mut roots = survey.catalog.roots.iter();
        let root = roots.find(|root| root.digest() == self.digest)?;
        if root.pinned {
            return Some("it is pinned now".to_owned());
        }
        let mut users = root.manifests().flat_map(|one| survey.users(one));
        if let Some(user) = users.next() {
            return Some(format!("{user} uses it now"));
        }
        if let Some(name) = root.names.iter().find(|name| !self.names.contains(name)) {
            return Some(format!("it is called {name} now"));
        }
        (survey.last_use(root) != self.used).then(|| "it was used since".to_owned())
    }
}

impl DoomedObject {
    /// Why it must stay after all. One that is gone already may go.
    fn kept_by(&self, survey: &Survey, needed: &HashMap<Object, Digest>) -> Option<String> {
        let measured = survey.objects.get(&self.object)?;
        if let Some(image) = needed.get(&self.object) {
            return Some(format!("image {} needs it now", image.short()));
        }
        (measured.used != self.used).then(|| "it was used since".to_owned())
    }
}
