"""Every sentence that the pack says to its user: first what to do, then why.

web/messages/ holds the translations, and docs/comfyui.md explains each; tests compare them.
"""

UNUSABLE_FILE = "Choose another file: {reason}"
UNSAVED = "Check the inputs of Save Solver: {reason}"
NO_CFG = "Set cfg by hand: {file} does not say with which it was made."
OTHER_FAMILY = "Choose another file: {file} is for {there}, this model is {here}."
SET_STEPS = "Set steps to {steps} and scheduler to dyweight: {file} is not for {given} steps."
SET_ITS_STEPS = "Set steps to {steps}: {file} is not for {given} steps."
MIXED_STEPS = (
    "Set steps to {steps} for learned steps: {file} has none for {given}, so those for the next smaller and larger "
    "number are mixed."
)
NO_SUCH_STEPS = "Set steps to {steps}: {file} is not for {given} steps. No learned steps were used."
CANT_RUN = "{file} can't run here: {reason}"
SET_SAMPLER = "Set sampler_name to dyweight: this sampler ignores {file}, which Apply Solver gave to the model."
SET_SCHEDULER = "Set scheduler to dyweight: other schedules do not fit {file}."
SET_CFG = "Set cfg to {there}: {file} was made with it, not with {here}."
SET_GUIDANCE = "Set guidance to {there}: {file} was made with it, not with {here}."
SET_SHIFT = "Set shift to {there}: {file} was made with it, not with {here}."
SET_SIZE = "Set the size to {there}: {file} was made for it, not for {here}."
OTHER_MODEL = (
    "Choose another file, or fit one: {file} was made for another model of this family, whose answers differ by {here}."
)
OTHER_PREDICTION = "Choose another file: {file} is for the prediction type {there}, this model has {here}."
OTHER_NOISE = "Choose another model: {file} was made with the noise scale {there}, this one has {here}."
PARTIAL_DENOISE = (
    "Set steps so that steps / denoise is {steps}, with the scheduler dyweight, or take KSampler (DyWeight): these "
    "sigmas are no part of {file}'s schedule. No learned steps were used."
)
SEVERAL_FIT = (
    "Choose a file with Load Solver and Apply Solver: several are for {family} at {steps} steps ({files}). No learned "
    "steps were used."
)
NONE_FITS = (
    "Set steps to those of a file, or add one and change the seed: none is for {family} at {steps} steps. No learned "
    "steps were used."
)
NO_SCHEDULE = "Give the model its file with Apply Solver: {family} at {steps} steps gets ComfyUI's simple schedule."
OTHER_HALF = (
    "Give the model of the high noise levels {file} too, with Apply Solver: it is for both models, and the part before "
    "ran without it."
)
GIVE_BOTH = (
    "Give this model {file} too, with Apply Solver: the part before ran with it, and this model has no file. No "
    "learned steps were used."
)
FOR_INTERVALS = (
    "Use euler and the steps that {family} was made for: it answers for an interval ({reason}), which is nothing for a "
    "multistep solver. {file} ran without its time scaling."
)
OTHER_GUIDER = (
    "Use KSampler or CFGGuider instead of {guider}, or another file: this one learned its own guidance, from the two "
    "predictions of CFGGuider."
)
OTHER_GUIDANCE = (
    "Remove {functions} before the sampler, or take another file: this one learned its own guidance, and no other can "
    "act between."
)
GUIDANCE_OFF = "Set cfg to {there}: this file learned its own guidance for it, and cfg 1 has none."
REMOVE_APPLY = "Remove one Apply Solver: two are in a row, and only the last counts, {file}."
MOVE_MODEL_SAMPLING = "Move the ModelSampling node before Apply Solver: it replaced the schedule of {file}."
MASK_HIDDEN = (
    "Use the sampler dyweight itself with a mask: the sampler around it hides what the mask keeps, so the picture can "
    "change outside the mask."
)
NOISE_HIDDEN = (
    "Connect the latent without a sampler before: {file} gives each noise its own schedule, and the noise is not known "
    "here. The schedule of the mean noise is used."
)
UNREADABLE_FILE = "Remove or replace a file in models/dyweight: {reason}"
UNREADABLE_FOLDER = "Check the folder {folder}: it can't be read ({reason}), so none of your files are listed."
NO_FOLDER = "Make the folder {folder} for solver files: it can't be made here ({reason})."
FIT_NEEDS = "Connect what is missing to Fit Solver: model and positive, or a guider."
FIT_TWO_MODELS = (
    "Connect model, positive and negative to Fit Solver instead of guider: model_low is the second half of model."
)
FIT_STEPS = "Set steps of Fit Solver to a number from 1 to {most}, or several, such as 4,6,8; it is now {steps}."
FIT_NO_NEGATIVE = "Connect negative to Fit Solver, or set cfg to 1: with cfg {cfg} the model needs one."
CANT_FIT = "Check what is connected to Fit Solver: {reason}"
CANT_SAVE = "Make room on the disk, and let this be written: {reason}"
NO_CLIP = "Connect Load CLIP to Prompts (DyWeight): this checkpoint has no text encoder."
FEW_PROMPTS = (
    "Connect several prompts to Fit Solver, with Prompts (DyWeight): with only one, the file may work only for that "
    "prompt."
)
NOTHING_BETTER = "Use {best} at {steps} steps, or a higher effort: the fit found nothing better. Nothing was saved."
