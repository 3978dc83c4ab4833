//! Makes a plan from what is in the store. Nothing is changed; locks are only asked for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::SystemTime;

use super::{DoomedImage, DoomedObject, GcOptions, GcPlan, PATIENCE, VERSION, WhyGone};
use crate::digest::Digest;
use crate::error::Result;
use crate::image::Image;
use crate::layout::Store;
use crate::needs::Root;
use crate::object::{Measured, Object};
use crate::survey::Survey;

pub(super) struct Planner<'a> {
    store: &'a Store,
    survey: &'a Survey,
    options: &'a GcOptions,
    /// By manifest.
    images: HashMap<Digest, &'a Image>,
    /// How many entries of the index still need an object.
    needs: HashMap<Object, usize>,
    plan: GcPlan,
    /// The objects of the plan.
    doomed: HashSet<Object>,
    /// Bytes of the store when the plan is done.
    left: u64,
}

/// Something that can go to make the store smaller.
enum Candidate<'a> {
    Image(&'a Root),
    Download(Object),
}

impl<'a> Planner<'a> {
    pub(super) fn new(store: &'a Store, survey: &'a Survey, options: &'a GcOptions) -> Self {
        let mut planner = Self {
            store,
            survey,
            options,
            images: survey.by_manifest(),
            needs: HashMap::new(),
            plan: GcPlan {
                version: VERSION,
                images: Vec::new(),
                lean: BTreeSet::new(),
                objects: Vec::new(),
                store_bytes: survey.total(),
                keep_bytes: options.keep_bytes,
            },
            doomed: HashSet::new(),
            left: survey.total(),
        };
        for root in &survey.catalog.roots {
            for object in root.objects(&planner.images) {
                *planner.needs.entry(object).or_default() += 1;
            }
        }
        planner
    }

    /// The plan, which leaves the entries alone that are in `spared`.
    pub(super) fn plan(mut self, spared: &HashSet<Digest>) -> Result<GcPlan> {
        let loose = !self.options.images_alone;
        if loose {
            self.downloads(self.options.now.checked_sub(PATIENCE))?;
        }
        // What cannot be read may need anything.
        if self.survey.catalog.damage.is_empty() {
            if loose {
                self.unneeded()?;
            }
            let mut images = self.removable(spared);
            self.images(&mut images, WhyGone::Untagged, |root, _| {
                root.names.is_empty()
            })?;
            if let Some(age) = self.options.unused_for {
                let limit = self.options.now.checked_sub(age);
                let old = |used| limit.is_some_and(|limit| used <= limit);
                self.images(&mut images, WhyGone::Unused, |_, used| old(used))?;
            }
            if self.options.compressed {
                self.compressed()?;
            }
            if let Some(limit) = self.options.keep_bytes {
                self.shrink(limit, images)?;
            }
        }
        Ok(self.plan)
    }

    /// Downloads nobody has touched since; all that nobody works on if that is not said.
    fn downloads(&mut self, before: Option<SystemTime>) -> Result<()> {
        let survey = self.survey;
        for (object, measured) in &survey.objects {
            let old = before.is_some_and(|before| measured.used <= before);
            if matches!(object, Object::Partial(_)) && old {
                self.doom(*object, measured, WhyGone::BrokenOff)?;
            }
        }
        Ok(())
    }

    fn unneeded(&mut self) -> Result<()> {
        let survey = self.survey;
        for (object, measured) in &survey.objects {
            let download = matches!(object, Object::Partial(_));
            if !download && !self.needs.contains_key(object) {
                self.doom(*object, measured, WhyGone::Unneeded)?;
            }
        }
        Ok(())
    }

    /// Blobs that can be fetched again, of what stays.
    fn compressed(&mut self) -> Result<()> {
        let going: HashSet<Digest> = self.plan.images.iter().map(|image| image.digest).collect();
        let doomed: HashSet<Object> = self.plan.objects.iter().map(|one| one.object).collect();
        let survey = self.survey;
        for (blob, entries) in survey.droppable() {
            let object = Object::Blob(blob);
            let measured = &survey.objects[&object];
            if doomed.contains(&object) || self.store.is_held(object)? {
                continue;
            }
            let staying = entries.into_iter().filter(|entry| !going.contains(entry));
            self.plan.lean.extend(staying);
            self.note(object, measured, WhyGone::Compressed);
            // Nobody frees it a second time, by whatever else goes.
            self.needs.remove(&object);
        }
        Ok(())
    }

    /// The entries that may go at all, and when each was last used, the oldest first.
    fn removable(&self, spared: &HashSet<Digest>) -> Vec<(SystemTime, &'a Root)> {
        let used: HashSet<Digest> = self.survey.uses.iter().map(|one| one.manifest).collect();
        let survey = self.survey;
        let (only, before) = (self.options.only.as_ref(), self.options.used_before);
        let mut removable: Vec<(SystemTime, &Root)> = survey
            .catalog
            .roots
            .iter()
            // What is no image is nobody's cache.
            .filter(|root| !root.pinned && !root.manifests.is_empty())
            .filter(|root| !spared.contains(&root.digest()))
            .filter(|root| only.is_none_or(|only| only.contains(&root.digest())))
            .filter(|root| root.manifests().all(|manifest| !used.contains(&manifest)))
            .map(|root| (survey.last_use(root), root))
            .filter(|(used, _)| before.is_none_or(|before| *used <= before))
            .collect();
        removable.sort_by_key(|(used, root)| (*used, root.digest()));
        removable
    }

    /// Takes out of the candidates and dooms those that `goes` says.
    fn images(
        &mut self,
        candidates: &mut Vec<(SystemTime, &'a Root)>,
        why: WhyGone,
        goes: impl Fn(&Root, SystemTime) -> bool,
    ) -> Result<()> {
        let (going, staying): (Vec<_>, Vec<_>) = std::mem::take(candidates)
            .into_iter()
            .partition(|(used, root)| goes(root, *used));
        *candidates = staying;
        for (used, root) in going {
            self.doom_image(root, used, why.clone())?;
        }
        Ok(())
    }

    /// The oldest use first, until the store is small enough.
    fn shrink(&mut self, limit: u64, images: Vec<(SystemTime, &'a Root)>) -> Result<()> {
        let doomed = &self.doomed;
        let downloads =
            self.survey.objects.iter().filter(|(object, _)| {
                matches!(object, Object::Partial(_)) && !doomed.contains(object)
            });
        let downloads = downloads.map(|(object, one)| (one.used, Candidate::Download(*object)));
        let images = images.into_iter();
        let mut candidates: Vec<(SystemTime, Candidate<'_>)> = images
            .map(|(used, root)| (used, Candidate::Image(root)))
            .chain(downloads)
            .collect();
        candidates.sort_by_key(|(used, _)| *used);
        for (used, candidate) in candidates {
            if self.left <= limit {
                break;
            }
            match candidate {
                Candidate::Image(root) => self.doom_image(root, used, WhyGone::OverLimit)?,
                Candidate::Download(object) => {
                    let measured = self.survey.objects[&object];
                    self.doom(object, &measured, WhyGone::OverLimit)?;
                }
            }
        }
        Ok(())
    }

    /// Takes an entry and all that only it still needs, unless some process has any of that in use.
    fn doom_image(&mut self, root: &Root, used: SystemTime, why: WhyGone) -> Result<()> {
        let mut objects: Vec<Object> = root.objects(&self.images).into_iter().collect();
        objects.sort();
        let survey = self.survey;
        let going: Vec<(Object, &Measured)> = objects
            .iter()
            .filter(|object| self.needs.get(object) == Some(&1))
            .filter_map(|object| Some((*object, survey.objects.get(object)?)))
            .collect();
        for (object, _) in &going {
            if self.store.is_held(*object)? {
                return Ok(());
            }
        }
        for object in &objects {
            if let Some(needs) = self.needs.get_mut(object) {
                *needs -= 1;
            }
        }
        let ids = root.manifests.iter();
        self.plan.images.push(DoomedImage {
            digest: root.digest(),
            ids: ids.map(|found| found.manifest.config.digest).collect(),
            names: root.names.clone(),
            used,
            why,
        });
        for (object, measured) in going {
            self.note(object, measured, WhyGone::OfImage(root.digest()));
        }
        Ok(())
    }

    /// What it gives back if an object goes after those that are doomed. What a layer and its blob have in
    /// common is given back by the one that goes last.
    fn gives_back(&self, object: Object, measured: &Measured) -> u64 {
        match object {
            Object::Layer(layer) if self.doomed.contains(&Object::Blob(layer.digest())) => {
                measured.whole()
            }
            Object::Blob(digest) => {
                let layer = Object::Layer(digest.into());
                let layer = Some(layer).filter(|layer| !self.doomed.contains(layer));
                let layer = layer.and_then(|layer| self.survey.objects.get(&layer));
                let kept = layer.map_or(0, |layer| layer.in_common);
                measured.bytes.saturating_sub(kept)
            }
            _ => measured.bytes,
        }
    }

    /// Takes an object unless some process has it in use.
    fn doom(&mut self, object: Object, measured: &Measured, why: WhyGone) -> Result<()> {
        if self.store.is_held(object)? {
            return Ok(());
        }
        self.note(object, measured, why);
        Ok(())
    }

    fn note(&mut self, object: Object, measured: &Measured, why: WhyGone) {
        let bytes = self.gives_back(object, measured);
        self.left = self.left.saturating_sub(bytes);
        self.doomed.insert(object);
        self.plan.objects.push(DoomedObject {
            object,
            bytes,
            used: measured.used,
            why,
        });
    }
}
