/* What the probes of eval/probe.c (language models) and eval/probe_clip.c share. */
#pragma once
#include "eval/probe.h"
#include "train/safetensors.h"

static inline bif_st_out bif_probe_host(const char *name, bif_tensor tensor)
{
    return (bif_st_out){.name = name, .tensor = tensor};
}

/* The pictures as the encoder sees them and other implementations want them: f32 [images, 3, S, S], malloc'ed. */
bif_status bif_probe_pixels(const bif_session *session, const bif_batch *batch, float **out);
/* Writes the tensors given and, with gradients, those of the table. */
bif_status bif_probe_write(bif_session *session, const bif_params *params, const bif_st_out *tensors, int64_t count, bool gradients,
                           const char *out);
/* bif_probe of a CLIP pair. */
bif_status bif_probe_clip(bif_session *session, const char *samples, const char *image_root, const char *out, bool gradients);
