/* `bifocal probe`: one packed batch of LLaVA-style samples, and everything another implementation needs to compare: input_ids [T], labels [T],
 * cu_seqlens [n+1] (i32 or i64), pixel_values [images, 3, S, S] normalised, logits [T, V], loss, and with gradients grad.NAME of every parameter. */
#pragma once
#include "eval/session.h"

/* samples: JSONL of LLaVA records ("image" string or list or absent, "conversations"). */
bif_status bif_probe(bif_session *session, const char *samples, const char *image_root, const char *out, bool gradients);
