// SPDX-License-Identifier: Apache-2.0
//
// Cuts, averages, colours and normalises all crops of an image: one thread for each pixel of each
// crop, in whole numbers, as OpenCV does it on the processor (crop_kernel.py says which).

// Weights are parts of 32 along each axis.
#define STEPS 32
#define HALF_WEIGHT (STEPS * STEPS / 2)

// The part of the image that a crop shows; what is not in it is not in the image either.
struct Window {
    const unsigned char *pixels;  // rows without gaps, `channels` bytes a pixel
    int height, width, channels;
};

// One sample in `channel`, at a corner and parts of 32 right of and below it; 0 outside.
static __device__ int sample(
    const Window &window, int channel, int left, int top, int right_part, int lower_part)
{
    int sum = 0;
    for (int down = 0; down < 2; ++down) {
        const int y = top + down;
        if (y < 0 || y >= window.height)
            continue;
        const int row_weight = down ? lower_part : STEPS - lower_part;
        const long long row = (long long)y * window.width;
        for (int across = 0; across < 2; ++across) {
            const int x = left + across;
            if (x < 0 || x >= window.width)
                continue;
            const int weight = row_weight * (across ? right_part : STEPS - right_part);
            sum += weight * window.pixels[(row + x) * window.channels + channel];
        }
    }
    return (sum + HALF_WEIGHT) / (STEPS * STEPS);
}

// As cv2.INTER_AREA rounds halves: up for 2 x 2, of 4 x 4 to the even one; 3 x 3 has none.
static __device__ int rounded_mean(int sum, int count)
{
    const int mean = sum / count, rest = 2 * (sum % count);
    return mean + (rest > count || (rest == count && (count == 4 || mean % 2)));
}

// The grid: pixels of a crop in x and y, crops in z.
// windows (crops, 3): where in pixels each begins, height, width; finer (crops); positions
// (crops, 2, length) in the windows; levels (3, 256); batch (crops, 3, size, size).
extern "C" __global__ void cut_crops(
    const unsigned char *pixels, const int *windows, int channels, int red, int green, int blue,
    const int *finer, const int *positions, int length, const float *levels, int size,
    float *batch)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    const int crop = blockIdx.z;
    if (x >= size || y >= size)
        return;
    const int *part = windows + crop * 3;
    const Window window = {pixels + part[0], part[1], part[2], channels};
    const int sources[3] = {red, green, blue};
    const int samples = finer[crop];
    const int *columns = positions + (long long)crop * 2 * length, *rows = columns + length;
    int sums[3] = {0, 0, 0};
    for (int down = 0; down < samples; ++down) {
        const int row = rows[y * samples + down];
        for (int across = 0; across < samples; ++across) {
            const int column = columns[x * samples + across];
            for (int c = 0; c < 3; ++c)
                sums[c] += sample(
                    window, sources[c], column >> 5, row >> 5, column & 31, row & 31);
        }
    }
    for (int c = 0; c < 3; ++c)
        batch[(((long long)crop * 3 + c) * size + y) * size + x] =
            levels[c * 256 + rounded_mean(sums[c], samples * samples)];
}
