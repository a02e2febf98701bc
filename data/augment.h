/* Random views of training pictures: torchvision's RandomResizedCrop, which open_clip trains with (scale 0.9 to 1, aspect 3/4 to 4/3,
 * bicubic), and a horizontal flip after it. What is drawn is a function of (seed, index): the same for any number of ranks and threads and
 * after a resume. The draws are Philox's, not torch's; the box they lead to is resized as Pillow does, to the bit. */
#pragma once
#include "data/image.h"

typedef struct {
    double scale; /* smallest share of the picture's area in (0, 1], the largest is 1; 0 = no crop, the picture is fitted as ever */
    double ratio; /* largest width / height of the box, >= 1; the smallest is 1 / ratio */
    double flip;  /* probability of a mirror image */
} bif_augment;

typedef struct {
    int64_t x, y, w, h; /* inside the picture */
    bool flip;
} bif_view;

bool bif_augments(const bif_augment *augment); /* whether it changes anything */
/* The view of a picture of this size. index: BIF_RNG_AUGMENT's. Up to ten boxes are drawn until one fits, then the largest centred one of
 * an allowed aspect is taken. Without a crop the view is the whole picture. */
bif_view bif_augment_view(const bif_augment *augment, uint64_t seed, uint64_t index, int64_t width, int64_t height);
/* out u8 [S, S, 3]: the view resized to the square, or without a crop bif_preprocess_run; then the flip. Errors of bif_preprocess_run. */
bif_status bif_augment_run(const bif_augment *augment, uint64_t seed, uint64_t index, const bif_preprocess *preprocess,
                           const bif_image *image, uint8_t *out);
