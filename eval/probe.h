/* `bifocal probe`: one batch, and everything another implementation needs to compare. Floats are f32, integers i32.
 *
 * LLaVA or a decoder alone: LLaVA-style samples packed end to end; input_ids [T], labels [T], cu_seqlens [n+1], pixel_values
 * [images, 3, S, S] normalised (LLaVA), logits [T, classes], loss [1].
 *
 * A CLIP pair: n pictures and their texts as the processor of transformers pads them; input_ids [n, L] (BOS text EOS, then EOS
 * again up to the longest), lengths [n] with the EOS, pixel_values [n, 3, S, S], image_embeds and text_embeds [n, E] of length 1,
 * logits_per_image [n, n] (scale and bias applied), loss [1]: InfoNCE, or the sigmoid loss of a model with logit_bias.
 *
 * Both: with gradients, grad.NAME of every parameter. */
#pragma once
#include "eval/session.h"

/* samples: JSONL of LLaVA records ("image" string or list or absent, "conversations"); for CLIP of {"image", "caption" or "text"}. A
 * text that is too long for CLIP loses its end, as in training. Not collective: one rank calls it. */
bif_status bif_probe(bif_session *session, const char *samples, const char *image_root, const char *out, bool gradients);
