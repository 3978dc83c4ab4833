//! The plan as a shell script that does the same by hand.

use super::RunPlan;

/// The script.
pub fn script(plan: &RunPlan) -> String {
    format!("# {}\n", plan.id)
}
