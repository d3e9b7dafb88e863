"""What each reason of a rejected or failed row means, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mimix_core.tables.rows import Reason


@dataclass(frozen=True)
class ReasonGuide:
    """``label``: a few words for tables and charts. ``advice``: what to do, in whole sentences.

    ``settings``: dotted keys of the settings that decide, if any do.
    """

    label: str
    advice: str
    settings: tuple[str, ...] = ()


_RETRY_CAPTIONS = "Mend the cause that the detail names, then `mimix captions retry`."
_RETRY_JUDGE = "Mend the cause that the detail names, then `mimix bench judge-retry`."
_QUARANTINE = "`mimix quarantine` lists such files, `mimix retry` releases them."
_MASKS = "Look at the mask in the studio."

REASON_GUIDES: Mapping[Reason, ReasonGuide] = {
    Reason.UNREADABLE_VIDEO: ReasonGuide(
        "the video is unreadable",
        "Play the file. If no player opens it, get another copy; if one does, convert it with "
        "`ffmpeg -i FILE -c copy NEW.mkv`.",
    ),
    Reason.NO_VIDEO_STREAM: ReasonGuide(
        "no video stream in the file",
        "The file has sound or pictures only. Take it out of the library.",
    ),
    Reason.VIDEO_TRUNCATED: ReasonGuide(
        "the file is truncated", "The end of the file is missing: copy or download it again."
    ),
    Reason.VIDEO_DAMAGED: ReasonGuide(
        "the file is damaged",
        "Get another copy, or allow more damage: scenes without damaged frames are used.",
        ("scenes.max_damaged_share",),
    ),
    Reason.VIDEO_TOO_LARGE: ReasonGuide(
        "the frame size is too large", "Scale the file down; no setting allows larger frames."
    ),
    Reason.DECODER_CRASHED: ReasonGuide(
        "the decoder crashed",
        "The file made the decoder crash or need too much memory. Convert it with ffmpeg, or "
        "allow more memory. " + _QUARANTINE,
        ("run.memory_limit_gb",),
    ),
    Reason.DECODER_HUNG: ReasonGuide(
        "the decoder hung",
        "Nothing was decoded for a long time. Convert the file with ffmpeg; on a slow disk, wait "
        "longer. " + _QUARANTINE,
        ("run.stall_timeout_minutes",),
    ),
    Reason.UNFORESEEN_ERROR: ReasonGuide(
        "unexpected error",
        "An error of MiMix or of a library: please report it with the detail. " + _QUARANTINE,
    ),
    Reason.EPISODE_UNUSABLE: ReasonGuide(
        "the episode is unusable", "An earlier row of the same episode says why."
    ),
    Reason.SCENE_TRANSITION: ReasonGuide(
        "a dissolve or fade",
        "Frames that mix two shots are left out. Nothing to do, unless a whole shot is taken for "
        "one: look at it in the studio.",
        ("scenes.detectors",),
    ),
    Reason.SCENE_CLOCK_BREAK: ReasonGuide(
        "its timestamps do not increase",
        "The file's clock jumps here; the sound parts on both sides are used. Nothing to do.",
    ),
    Reason.SCENE_DAMAGED: ReasonGuide(
        "damaged frames",
        "The decoder had to conceal errors in this shot. Get another copy of the episode.",
        ("scenes.max_damaged_share",),
    ),
    Reason.SCENE_TOO_SHORT: ReasonGuide(
        "too short for a clip",
        "The shot is shorter than a clip of the set number of frames. Train on shorter clips to "
        "use it.",
        ("clips.frames", "clips.scene_margin_seconds"),
    ),
    Reason.SCENE_BLACK: ReasonGuide("black", "Nothing to do.", ("scenes.max_black_share",)),
    Reason.SCENE_FROZEN: ReasonGuide(
        "no motion",
        "The picture stands still. Allow more for limited animation.",
        ("scenes.max_frozen_share",),
    ),
    Reason.SCENE_CREDITS: ReasonGuide(
        "credits",
        "Several rows of text in much of the shot. Raise the limits if a story has such pages.",
        ("overlays.credits_rows", "overlays.credits_share", "overlays.credits_seconds"),
    ),
    Reason.CROP_TOO_DEEP: ReasonGuide(
        "text covers too much",
        "The crop above the text would lose too much of the frame. Use a copy without burnt-in "
        "subtitles, or allow a deeper crop.",
        ("overlays.max_height_loss",),
    ),
    Reason.TEXT_REMAINS: ReasonGuide(
        "text remains in the image",
        "Text or a logo that the crop cannot remove. Decide whether such scenes are kept, or move "
        "the crop in the studio.",
        ("overlays.remaining_text", "overlays.max_text_share"),
    ),
    Reason.SOURCE_TOO_SMALL: ReasonGuide(
        "the source is too small",
        "The crop has too few pixels for a clip. Use a copy of higher resolution.",
        ("clips.min_source_width", "clips.min_source_height"),
    ),
    Reason.DETECTOR_FAILED: ReasonGuide(
        "the detector failed", "The detail has the error; please report it.", ("overlays.backend",)
    ),
    Reason.CLIP_BLACK: ReasonGuide(
        "the clip is black", "Nothing to do.", ("clips.max_black_share",)
    ),
    Reason.CLIP_FROZEN: ReasonGuide(
        "the clip is frozen",
        "Too many frames repeat the one before. Allow more for limited animation.",
        ("clips.max_frozen_share",),
    ),
    Reason.CLIP_BLURRED: ReasonGuide(
        "the clip is blurred",
        "Old or enlarged footage is soft: lower the limit after looking at some.",
        ("clips.min_sharpness",),
    ),
    Reason.CLIP_WITHOUT_MOTION: ReasonGuide(
        "hardly any motion", "Lower the limit to keep calm clips.", ("clips.min_motion",)
    ),
    Reason.NEAR_DUPLICATE: ReasonGuide(
        "duplicate of another clip",
        "The detail names the other clip; the studio shows both and can use this one anyway.",
        ("duplicates.min_frame_similarity", "duplicates.min_motion_similarity"),
    ),
    Reason.ENCODE_FAILED: ReasonGuide(
        "encoding failed",
        "The detail has the encoder's words; a full disk is the most common cause.",
    ),
    Reason.PROOF_FAILED: ReasonGuide(
        "verification of the encoded clip failed",
        "The written clip differs from what was planned, so it is not used. If the source plays "
        "well, please report it with the detail.",
    ),
    Reason.SUBTITLES_UNREADABLE: ReasonGuide(
        "the subtitles are unreadable",
        "Save the subtitle file as UTF-8, or name its encoding; the detail has the guesses.",
        ("transcripts.fallback_encoding",),
    ),
    Reason.NO_VOICE: ReasonGuide(
        "hardly any speech in the line's time",
        "Nothing is said from this line's voice; a person can still say who speaks it "
        "(`mimix characters name-line`). If all lines have this reason, the subtitles belong to "
        "another cut, or the video has no audio.",
        ("voices.min_speech_seconds",),
    ),
    Reason.NO_ACTION_IN_SCRIPT: ReasonGuide(
        "no known character acts",
        "The action script has nothing for this time. Add a line to it "
        "(`docs/scripts-and-boxes.md`).",
        ("captions.min_overlap_seconds",),
    ),
    Reason.NO_CHARACTER: ReasonGuide(
        "no known character is visible",
        "The model named no character of the cast. If one is visible, give it aliases and a "
        "description in the library, or write the caption in the studio.",
    ),
    Reason.LEFT_OUT_BY_HAND: ReasonGuide(
        "excluded manually",
        "A person decided so; undo it in the studio or with `mimix captions veto`.",
    ),
    Reason.CAPTION_CHECK_FAILED: ReasonGuide(
        "the caption failed validation",
        "The detail says which rule. Edit the caption in the studio, or mend the script or prompt.",
        ("captions.max_words", "captions.max_tokens", "captions.max_reprompts"),
    ),
    Reason.CAPTION_REFUSED: ReasonGuide(
        "the model refused to caption it",
        "Write the caption in the studio, or ask another model and `mimix captions retry`.",
    ),
    Reason.CAPTION_TRUNCATED: ReasonGuide(
        "the model's caption was truncated",
        "Allow more tokens (thinking needs some as well), then `mimix captions retry`.",
        ("captions.vlm.max_output_tokens", "captions.vlm.reasoning_tokens"),
    ),
    Reason.CAPTION_INVALID: ReasonGuide(
        "the model's answer was not a caption",
        "Ask for another form of answer or another model, then `mimix captions retry`.",
        ("captions.vlm.response_format",),
    ),
    Reason.CAPTION_REJECTED: ReasonGuide(
        "the provider rejected the request", _RETRY_CAPTIONS, ("captions.vlm.image_detail",)
    ),
    Reason.CAPTION_UNAVAILABLE: ReasonGuide(
        "the captioning model was unavailable",
        _RETRY_CAPTIONS,
        ("captions.vlm.max_attempts", "captions.vlm.request_timeout_seconds"),
    ),
    Reason.NOT_LOCATED: ReasonGuide(
        "the character was not found",
        "`mimix locate preview` shows boxes and distances. Add reference images of more views, "
        "or name tracks with `mimix characters propose` (`docs/locating.md`).",
        ("cutouts.face.max_distance", "cutouts.embedding.min_similarity"),
    ),
    Reason.LOCATE_FAILED: ReasonGuide(
        "locating the character failed", "The detail has the error of the locator."
    ),
    Reason.MASK_ABSENT: ReasonGuide(
        "absent in too many frames",
        "The character leaves the scene, or was lost. " + _MASKS,
        ("cutouts.min_presence",),
    ),
    Reason.MASK_AREA: ReasonGuide(
        "too small or too large",
        "A figure of this size gives no good composite. " + _MASKS,
        ("cutouts.min_area", "cutouts.max_area"),
    ),
    Reason.MASK_UNSTABLE: ReasonGuide(
        "the mask flickers",
        _MASKS + " A stronger segmenter helps most (`docs/cutouts.md`).",
        ("cutouts.min_frame_iou",),
    ),
    Reason.MASK_JUMPS: ReasonGuide(
        "the mask jumps",
        "Probably two figures were mixed up. " + _MASKS,
        ("cutouts.max_jump",),
    ),
    Reason.MASK_FLICKERS: ReasonGuide(
        "the mask flickers",
        _MASKS + " A stronger segmenter helps most (`docs/cutouts.md`).",
        ("cutouts.max_flicker",),
    ),
    Reason.MASK_FRAGMENTED: ReasonGuide(
        "the mask is in pieces",
        "An object covers the figure, or parts were missed. " + _MASKS,
        ("cutouts.max_pieces",),
    ),
    Reason.MASK_HOLES: ReasonGuide(
        "the mask has holes",
        _MASKS + " Small holes are closed up to the second limit.",
        ("cutouts.max_holes", "cutouts.max_closed_hole"),
    ),
    Reason.MASK_AT_BORDER: ReasonGuide(
        "cut off by the frame",
        "A figure that the frame cuts off on both sides fits into no other scene. Nothing to do.",
    ),
    Reason.MASK_LEAVES_BOX: ReasonGuide(
        "the mask leaves its box",
        "The background was taken for the figure. " + _MASKS,
        ("cutouts.min_share_in_box",),
    ),
    Reason.MASK_MISSES_BOX: ReasonGuide(
        "the mask covers only a part",
        "Only a part of the figure was cut out. " + _MASKS,
        ("cutouts.min_box_coverage",),
    ),
    Reason.MASK_UNSURE: ReasonGuide("low confidence in the mask", _MASKS, ("cutouts.min_score",)),
    Reason.SEGMENT_FAILED: ReasonGuide(
        "segmentation failed",
        "The detail has the error. Out of memory: smaller batches.",
        ("cutouts.sam2.frame_batch_size", "cutouts.sam2.clip_batch_size"),
    ),
    Reason.ACTS_WITH_OTHERS: ReasonGuide(
        "acts with a character that would be missing",
        "Alone in another scene the action would make no sense.",
        ("composites.solo_actions_only",),
    ),
    Reason.ACTS_WITH_THINGS: ReasonGuide(
        "acts with things that the cutout lacks",
        "The caption names a thing that the mask does not hold. Edit the caption if it is wrong.",
        ("composites.guest_props",),
    ),
    Reason.NO_PLACE: ReasonGuide(
        "no valid placement in the scene",
        "Everywhere the figure would hide somebody or leave the frame.",
        ("composites.max_occlusion", "composites.min_height", "composites.max_height"),
    ),
    Reason.NO_GROUND: ReasonGuide(
        "no ground under its feet in the scene",
        "The figure would be placed on water, sky or a wall.",
        ("composites.min_ground",),
    ),
    Reason.RENDER_FAILED: ReasonGuide(
        "rendering failed", "A source could not be read or the result not written; see the detail."
    ),
    Reason.NOT_NEEDED_FOR_RATIO: ReasonGuide(
        "not needed for the ratio",
        "There are more than the ratio asks for. Nothing to do.",
        ("composites.ratio", "dataset.ratio"),
    ),
    Reason.HELD_OUT: ReasonGuide(
        "held out from training",
        "It belongs to validation or test, or its pair of characters is held out.",
        ("dataset.val_share", "dataset.test_share", "composites.held_out_pairs"),
    ),
    Reason.EXCLUDED_CHARACTER: ReasonGuide(
        "shows an excluded character",
        "Its caption names a character that the settings leave out.",
        ("dataset.excluded_characters",),
    ),
    Reason.NOT_REPLAYED: ReasonGuide(
        "not replayed",
        "A character is added to an adapter, and of the samples without it only a share is trained "
        "on again. Nothing to do, unless old characters are forgotten: then replay more.",
        ("dataset.replay_share", "dataset.new_characters"),
    ),
    Reason.NO_BACKGROUND: ReasonGuide(
        "no suitable background",
        "No clip of the other style can take this character. Add episodes of that style.",
        ("composites.require_located_characters",),
    ),
    Reason.NO_CAPTION: ReasonGuide(
        "has no caption", "The row of the captions or recaptions stage says why."
    ),
    Reason.NO_LATENT: ReasonGuide(
        "has no latent", "The row of the latents stage says why; its detail has the error."
    ),
    Reason.NO_MASK: ReasonGuide(
        "no usable mask",
        "Its characters lack cutouts that passed the checks. The loss of such a sample is not "
        "weighted, and such a video starts from noise; the rows of the cutouts say why masks are "
        "missing.",
        ("lora.region_weight", "samples.start"),
    ),
    Reason.SIZE_DOES_NOT_FIT: ReasonGuide(
        "unsuitable size for the model",
        "Width, height or number of frames is none that the model takes.",
        ("latents.width", "latents.height", "clips.frames"),
    ),
    Reason.GENERATION_FAILED: ReasonGuide(
        "generation failed",
        "The detail has the error. Out of memory: offload, or smaller videos.",
        ("samples.offload", "samples.vae_tiling", "samples.num_frames"),
    ),
    Reason.METRIC_FAILED: ReasonGuide(
        "the metric failed", "The detail has the error of the metric.", ("scores.metrics",)
    ),
    Reason.NO_VIDEO: ReasonGuide(
        "no video", "There is no video of this prompt: generation failed, or a file is missing."
    ),
    Reason.ANSWER_REFUSED: ReasonGuide(
        "the judge refused", "Ask another model: such questions stay without a score."
    ),
    Reason.ANSWER_TRUNCATED: ReasonGuide(
        "the judge's answer was truncated",
        "Allow more tokens (thinking needs some as well). " + _RETRY_JUDGE,
        ("judge.vlm.max_output_tokens", "judge.vlm.reasoning_tokens"),
    ),
    Reason.ANSWER_INVALID: ReasonGuide(
        "the judge's answer was invalid", _RETRY_JUDGE, ("judge.vlm.response_format",)
    ),
    Reason.ANSWER_REJECTED: ReasonGuide("the provider rejected the question", _RETRY_JUDGE),
    Reason.ANSWER_UNAVAILABLE: ReasonGuide(
        "the judge was unavailable",
        _RETRY_JUDGE,
        ("judge.vlm.max_attempts", "judge.vlm.request_timeout_seconds"),
    ),
    Reason.UPSTREAM_FAILED: ReasonGuide(
        "an earlier stage failed", "The row of the earlier stage says why: `mimix why ID`."
    ),
}
