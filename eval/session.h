/* A checkpoint opened for inference: nothing trains, one rank holds it whole. */
#pragma once
#include "base/json_scan.h"
#include "data/chat.h"
#include "data/image.h"
#include "data/shard.h"
#include "train/build.h"
#include "train/networks.h"

typedef struct {
    bif_beside beside;         /* --base, --tower */
    bool best;                 /* the path is a run's folder, and the checkpoint its best.json names is meant */
    const char *device;        /* "cpu", ... */
    int threads;               /* of a rank; 0 = bif_comm_threads decides */
    bif_precision precision;   /* auto = bf16 on CUDA, fp32 on the CPU, whatever the folder holds */
    const char *tokenizer;     /* NULL = the folder's own tokenizer.json */
    const char *template_name; /* NULL = what the checkpoint was trained with, else vicuna_v1 */
    const char *system;        /* NULL = the template's own */
    const char *image_fit;     /* NULL = what the checkpoint was trained with, else squash (SigLIP's tower), crop (CLIP) or pad */
    const char *image_place;   /* NULL = what the checkpoint was trained with, else front */
    int64_t max_tokens;        /* 0 = the model's positions */
    bool gradients;            /* probe --grad: every group trains */
} bif_session_options;

typedef struct {
    bif_device *device;
    bif_tokenizer *tokenizer;
    bif_model_config model;
    bif_vlm vlm;   /* decoder alone or LLaVA */
    bif_clip clip; /* CLIP */
    bif_chat chat;
    bif_preprocess preprocess;
    char *folder;
} bif_session;

/* path: a Hugging Face folder or a run's folder (its newest valid checkpoint, or its best). kinds: mask of 1 << bif_model_kind that are welcome.
 * Collective (the newest checkpoint is chosen by rank 0). */
bif_status bif_session_open(const char *path, unsigned kinds, const bif_session_options *options, bif_comm *comm, bif_session *out);
void bif_session_close(bif_session *session);
/* Reads root/relative (bif_open_beneath), decodes and preprocesses into pixels u8 [S, S, 3]. */
bif_status bif_session_image(const bif_session *session, int root_fd, const char *root, const char *relative, uint8_t *pixels);
/* The same of a file that the user names. */
bif_status bif_session_image_file(const bif_session *session, const char *path, uint8_t *pixels);
/* The same of an encoded picture in base64 (white space in it is skipped). what: its name in messages. */
bif_status bif_session_image_base64(const bif_session *session, const char *what, bif_span base64, uint8_t *pixels);
/* The same of an image of a shard. Thread-safe. */
bif_status bif_session_image_shard(const bif_session *session, const bif_shard *shard, int64_t image, uint8_t *pixels);
