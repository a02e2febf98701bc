/* PDQ, the 256-bit perceptual hash of ThreatExchange, by the steps of its C++ reference, float for float:
 * a picture with a side above 512 is first made 512 x 512 by the nearest pixel (aspect ignored); luma .299 R + .587 G + .114 B; two passes
 * of box filters along rows and columns; 64 x 64 samples; quality from their differences; the 16 x 16 lowest frequencies without DC; bits
 * above the median. Pixels as stored, the EXIF orientation not applied. */
#pragma once
#include "base/status.h"

#define BIF_PDQ_METHOD "PDQ of the C++ reference, nearest pixel to 512 x 512, as stored"

enum { BIF_PDQ_FORMS = 8, BIF_PDQ_BYTES = 32 };

typedef struct {
    /* As is, turned by 90, 180, 270, flipped X, Y, plus 1 (transposed), minus 1; bytes in the order in which the hex digits are printed. */
    uint8_t form[BIF_PDQ_FORMS][BIF_PDQ_BYTES];
    int quality; /* 0 to 100; below 50 the hash says little */
} bif_pdq;

/* rgb [height, width, 3]; grey: all channels are equal, and luma is the byte itself. forms: 1 or all 8; the others are left as they are.
 * A side below 5: hashes of 0, quality 0. */
void bif_pdq_hash(const uint8_t *rgb, int64_t width, int64_t height, bool grey, int forms, bif_pdq *out);
