#include "eval/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/file.h"
#include "train/checkpoint.h"
#include "train/hf_folder.h"
#include "train/vocabulary.h"

#define PICTURE_BYTES ((size_t)1 << 30) /* of one file: what a list of questions names is not trusted */

static bif_status open_model(const bif_session_options *options, unsigned kinds, const bif_comm *comm, bif_session *s)
{
    bif_status st = BIF_OK;
    bif_params *params = NULL;
    bif_dtype dtype = BIF_DTYPE_F32;
    BIF_TRY(bif_hf_config_read_with(s->folder, &options->beside, &s->model));
    if (!(kinds >> s->model.kind & 1)) {
        static const char *const names[] = {"a decoder alone", "a CLIP pair", "a LLaVA"};
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s is %s, which this command cannot use", s->folder, names[s->model.kind]));
    }
    if (s->model.kind == BIF_MODEL_CLIP && s->model.text.hidden == 0) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s is a vision tower alone; name a CLIP pair", s->folder));
    }
    BIF_TRY(bif_comm_open_device(comm, options->device, bif_comm_threads(comm, options->threads), &s->device));
    BIF_TRY(bif_choose_dtype(options->precision, s->device, &dtype));
    char *tokenizer = options->tokenizer != NULL ? bif_strdup(options->tokenizer) : bif_hf_tokenizer(s->folder, &options->beside);
    const char *words = tokenizer != NULL ? tokenizer : s->folder;
    st = bif_tokenizer_load(words, &s->tokenizer);
    st = st == BIF_OK ? bif_vocabulary_fit(&s->model, s->tokenizer, words) : st;
    free(tokenizer);
    BIF_TRY(st);
    if (s->model.kind == BIF_MODEL_CLIP) {
        BIF_TRY(bif_build_text_tokens(s->tokenizer, &s->model.text));
        bif_clip_declare(&s->clip, &s->model);
        params = &s->clip.params;
    } else {
        bif_vlm_declare(&s->vlm, &s->model);
        params = &s->vlm.params;
    }
    bif_params_set_dtype(params, dtype);
    for (int group = 0; group < BIF_GROUPS; group++) {
        bif_params_train_group(params, (bif_group)group, options->gradients);
    }
    if (s->model.kind == BIF_MODEL_CLIP) {
        BIF_TRY(bif_clip_allocate(&s->clip, s->device, 1));
    } else {
        BIF_TRY(bif_vlm_allocate(&s->vlm, s->device, 1));
    }
    BIF_TRY(bif_hf_load_with(s->folder, &options->beside, params, ~0u));
done:
    return st;
}

static bif_status open_input(const bif_session_options *options, bif_session *s)
{
    bif_status st = BIF_OK;
    const bif_model_config *m = &s->model;
    const char *template_name = options->template_name != NULL ? options->template_name
                                : m->template_name[0] != '\0'  ? m->template_name
                                                               : "vicuna_v1";
    const char *system = options->system != NULL ? options->system : m->has_system ? m->system : NULL;
    const char *usual = bif_image_fit(m, m->kind == BIF_MODEL_CLIP ? "crop" : "pad"); /* CLIPImageProcessor's, LLaVA's */
    const char *fit = options->image_fit != NULL ? options->image_fit : m->image_fit[0] != '\0' ? m->image_fit : usual;
    const char *place = options->image_place != NULL ? options->image_place : m->image_place[0] != '\0' ? m->image_place : "front";
    const int64_t positions = m->kind == BIF_MODEL_CLIP ? m->text.positions : m->decoder.positions;
    const int64_t max_tokens = options->max_tokens > 0 && options->max_tokens < positions ? options->max_tokens : positions;
    BIF_TRY(bif_build_chat(m, s->tokenizer, template_name, system, place, max_tokens, false, &s->chat));
    if (m->kind != BIF_MODEL_DECODER) {
        BIF_TRY(bif_build_preprocess(m, fit, &s->preprocess));
        BIF_TRY(bif_build_table(&s->preprocess, s->device, m->kind == BIF_MODEL_CLIP ? &s->clip.vit : &s->vlm.vit));
    }
done:
    return st;
}

bif_status bif_session_open(const char *path, unsigned kinds, const bif_session_options *options, bif_comm *comm, bif_session *out)
{
    bif_status st = BIF_OK;
    *out = (bif_session){0};
    BIF_TRY(options->best ? bif_checkpoint_find_best(comm, path, &out->folder)
                          : bif_resolve_model(comm, "checkpoint", path, &out->folder));
    st = open_model(options, kinds, comm, out);
    if (st == BIF_OK) {
        st = open_input(options, out);
    }
    st = bif_comm_agree(comm, st);
done:
    return st;
}

void bif_session_close(bif_session *session)
{
    if (session->model.kind == BIF_MODEL_CLIP) {
        bif_clip_free(&session->clip);
    } else {
        bif_vlm_free(&session->vlm);
    }
    bif_device_close(session->device);
    bif_tokenizer_free(session->tokenizer);
    free(session->folder);
    *session = (bif_session){0};
}

static bif_status take_image(const bif_session *session, const char *what, const char *bytes, size_t size, uint8_t *pixels)
{
    bif_status st = BIF_OK;
    bif_image image = {0};
    const bif_image_limits limits = {0};
    BIF_TRY(bif_image_decode(what, bytes, size, &limits, &image));
    BIF_TRY(bif_preprocess_run(&session->preprocess, &image, pixels));
done:
    bif_image_free(&image);
    return st;
}

bif_status bif_session_image(const bif_session *session, int root_fd, const char *root, const char *relative, uint8_t *pixels)
{
    bif_status st = BIF_OK;
    int fd = -1;
    size_t size = 0;
    char *bytes = NULL;
    BIF_TRY(bif_open_beneath(root_fd, root, relative, &fd, &size));
    if (size > PICTURE_BYTES) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s/%s: has %zu bytes; at most %zu are read of a picture", root, relative, size, PICTURE_BYTES));
    }
    bytes = bif_malloc(size);
    for (size_t at = 0, got = 0; at < size; at += got) {
        BIF_TRY(bif_read_some(fd, relative, bytes + at, size - at, &got));
        if (got == 0) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s/%s: became shorter while it was read", root, relative));
        }
    }
    BIF_TRY(take_image(session, relative, bytes, size, pixels));
done:
    if (fd >= 0) {
        close(fd);
    }
    free(bytes);
    return st;
}

bif_status bif_session_image_file(const bif_session *session, const char *path, uint8_t *pixels)
{
    char *folder = bif_path_parent(path);
    const int root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const bif_status st = root < 0 ? bif_fail_errno(errno, "cannot open the folder '%s'", folder)
                                   : bif_session_image(session, root, folder, bif_path_base(path), pixels);
    if (root >= 0) {
        close(root);
    }
    free(folder);
    return st;
}

bif_status bif_session_image_base64(const bif_session *session, const char *what, bif_span base64, uint8_t *pixels)
{
    bif_status st = BIF_OK;
    char *bytes = NULL;
    size_t size = 0;
    BIF_TRY(bif_base64_decode(what, base64, &bytes, &size));
    BIF_TRY(take_image(session, what, bytes, size, pixels));
done:
    free(bytes);
    return st;
}

bif_status bif_session_image_shard(const bif_session *session, const bif_shard *shard, int64_t image, uint8_t *pixels)
{
    bif_status st = BIF_OK;
    bif_shard_image record;
    char *bytes = NULL, *what = bif_format("%s, image %lld", bif_shard_path(shard), (long long)image);
    BIF_TRY(bif_shard_get_image(shard, image, &record));
    if (record.size > PICTURE_BYTES) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: has %llu bytes; at most %zu are read of a picture", what, (unsigned long long)record.size,
                         PICTURE_BYTES));
    }
    bytes = bif_malloc((size_t)record.size);
    BIF_TRY(bif_shard_read_image(shard, image, bytes, (size_t)record.size));
    BIF_TRY(take_image(session, what, bytes, (size_t)record.size, pixels));
done:
    free(bytes);
    free(what);
    return st;
}
