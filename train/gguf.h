/* Files of llama.cpp: GGUF version 3 (ggml's docs/gguf.md), little endian. Keys and the list of tensors are put together in memory, numbers
 * are converted and written in blocks of 1 MiB. The data begin, like each tensor, on a multiple of 32 bytes. */
#pragma once
#include "base/status.h"

typedef enum { BIF_GGUF_F32 = 0, BIF_GGUF_F16 = 1, BIF_GGUF_BF16 = 30 } bif_gguf_type; /* their numbers in the file */

typedef struct bif_gguf bif_gguf;
bif_gguf *bif_gguf_new(void);
void bif_gguf_free(bif_gguf *file); /* NULL is allowed */

/* Keys, in the order of the calls; each once. Texts are copied. */
void bif_gguf_put_u32(bif_gguf *file, const char *key, int64_t value); /* a bug where it does not fit */
void bif_gguf_put_f32(bif_gguf *file, const char *key, float value);
void bif_gguf_put_bool(bif_gguf *file, const char *key, bool value);
void bif_gguf_put_text(bif_gguf *file, const char *key, const char *value);
void bif_gguf_put_i32s(bif_gguf *file, const char *key, const int32_t *values, size_t count);
void bif_gguf_put_f32s(bif_gguf *file, const char *key, const float *values, size_t count);
/* A list of texts: its length, then as many calls of bif_gguf_text before any other key. */
void bif_gguf_begin_texts(bif_gguf *file, const char *key, size_t count);
void bif_gguf_text(bif_gguf *file, const char *bytes, size_t size);

/* Elements [first, first + count) of a tensor, row-major, into out. */
typedef void (*bif_gguf_read)(const void *context, int64_t first, int64_t count, float *out);
/* A tensor; dim as in PyTorch, the slowest axis first (the file has them the other way round). At most 4 axes and names of 63 bytes. read
 * is called while the file is written; context (taken over, freed with the file) is its own. */
void bif_gguf_tensor(bif_gguf *file, const char *name, int rank, const int64_t *dim, bif_gguf_type type, bif_gguf_read read, void *context);

/* Atomic. digest (33 bytes) receives the XXH3-128 of the file, bytes its length; both may be NULL. BIF_ERR_DATA naming the tensor when a
 * number is beyond what F16 holds (65504). */
bif_status bif_gguf_write(const bif_gguf *file, const char *path, char digest[33], uint64_t *bytes);
