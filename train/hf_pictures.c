#include "train/hf_config_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/image.h"

#define SIDE_CAP ((size_t)1 << 20)
#define BICUBIC 3 /* PIL.Image.BICUBIC */

/* preprocessor_config.json, or the part of processor_config.json that transformers 5 keeps of it; *root NULL: neither is there. */
static bif_status load(const char *folder, char **path, json_t **root)
{
    bif_status st = BIF_OK;
    *root = NULL;
    *path = bif_path_join(folder, "preprocessor_config.json");
    if (bif_exists(*path)) {
        return bif_json_load_file(*path, SIDE_CAP, root);
    }
    free(*path);
    *path = bif_path_join(folder, "processor_config.json");
    if (bif_exists(*path)) {
        json_t *whole = NULL;
        BIF_TRY(bif_json_load_file(*path, SIDE_CAP, &whole));
        *root = bif_hf_is_null(whole, "image_processor") ? NULL : json_incref(json_object_get(whole, "image_processor"));
        json_decref(whole);
    }
done:
    return st;
}

static bif_status check_levels(const char *where, const json_t *o, const char *key, const float want[3])
{
    const json_t *list = json_object_get(o, key);
    for (size_t i = 0; json_is_array(list) && i < 3; i++) {
        if (!(fabs(json_number_value(json_array_get(list, i)) - (double)want[i]) < 1e-3)) {
            return bif_fail(BIF_ERR_CONFIG, "%s: %s is not %g, %g, %g, by which this tower's pictures are prepared here", where, key,
                            (double)want[0], (double)want[1], (double)want[2]);
        }
    }
    return BIF_OK;
}

bif_status bif_hf_check_pictures(const char *folder, bif_model_config *c)
{
    bif_status st = BIF_OK;
    char *path = NULL;
    json_t *o = NULL;
    const bool siglip = c->vit.family == BIF_TOWER_SIGLIP;
    const bif_preprocess ours = siglip ? bif_preprocess_siglip(c->vit.image) : bif_preprocess_clip(c->vit.image);
    bool normalize = true, rescale = true, crop = true;
    double factor = 1.0 / 255.0;
    int64_t resample = BICUBIC;
    BIF_TRY(load(folder, &path, &o));
    if (o == NULL) {
        goto done;
    }
    BIF_TRY(bif_json_bool(path, o, "do_normalize", false, &normalize));
    BIF_TRY(bif_json_bool(path, o, "do_rescale", false, &rescale));
    BIF_TRY(bif_json_bool(path, o, "do_center_crop", false, &crop));
    BIF_TRY(bif_json_f64(path, o, "rescale_factor", false, &factor));
    BIF_TRY(bif_json_i64(path, o, "resample", false, &resample));
    if (!normalize || !rescale || !(fabs(factor * 255.0 - 1.0) < 1e-3)) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "%s: its pictures are not divided by 255 and normalized, as they are here", path));
    }
    BIF_TRY(check_levels(path, o, "image_mean", ours.mean));
    BIF_TRY(check_levels(path, o, "image_std", ours.std));
    if (resample != BICUBIC) {
        bif_warn("%s: resample is %lld; pictures are resized bicubically (3) here", path, (long long)resample);
    }
    if (c->kind == BIF_MODEL_CLIP && !siglip && c->image_fit[0] == '\0' && !crop && json_object_get(json_object_get(o, "size"), "height") != NULL) {
        snprintf(c->image_fit, sizeof c->image_fit, "squash");
    }
done:
    json_decref(o);
    free(path);
    return st;
}
