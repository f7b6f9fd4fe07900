/* Made by make_rope.py with transformers 5.24.0: scaling, tokens, factor of cos and sin, inv_freq. */
/* clang-format off */
static const double rope_short[] = { 1.0, 1.05, 1.25, 2.0 }, rope_long[] = { 1.1, 2.5, 8.0, 31.5 };
static const struct rope_case {
    struct ir_rope r;
    uint32_t t;
    double scale;
    float inv_freq[16];
} rope_cases[] = {
    { { .kind = IR_ROPE_LINEAR, .theta = 10000, .dim = 16, .max_positions = 64, .factor = 2.5 }, 64, 1, { 0.400000006, 0.1264911, 0.0399999991, 0.0126491114, 0.00399999972, 0.00126491114, 0.000400000019, 0.000126491112 } },
    { { .kind = IR_ROPE_DYNAMIC, .theta = 10000, .dim = 16, .max_positions = 64, .factor = 4 }, 64, 1, { 1, 0.316227764, 0.100000001, 0.0316227786, 0.00999999978, 0.00316227786, 0.00100000005, 0.000316227786 } },
    { { .kind = IR_ROPE_DYNAMIC, .theta = 10000, .dim = 16, .max_positions = 64, .factor = 4 }, 200, 1, { 1, 0.229258373, 0.0525593981, 0.0120496824, 0.00276249065, 0.000633324089, 0.000145194848, 3.3287135e-05 } },
    { { .kind = IR_ROPE_LLAMA3, .theta = 500000, .dim = 32, .max_positions = 131072, .factor = 8, .low_freq_factor = 1, .high_freq_factor = 4, .original = 8192 }, 64, 1, { 1, 0.440366626, 0.193922758, 0.0853971019, 0.0376060307, 0.0165604409, 0.00729266508, 0.00321144611, 0.000524846022, 7.78465546e-05, 3.42810235e-05, 1.50962178e-05, 6.64786967e-06, 2.92749974e-06, 1.28917316e-06, 5.6770881e-07 } },
    { { .kind = IR_ROPE_LLAMA3, .theta = 500000, .dim = 16, .max_positions = 131072, .factor = 32, .low_freq_factor = 1, .high_freq_factor = 4, .original = 8192 }, 64, 1, { 1, 0.193922758, 0.0376060307, 0.00729266508, 0.000429556705, 8.57025589e-06, 1.66196742e-06, 3.22293289e-07 } },
    { { .kind = IR_ROPE_YARN, .theta = 10000, .dim = 32, .max_positions = 163840, .factor = 40, .original = 4096, .beta_fast = 32, .beta_slow = 1, .mscale = 1, .mscale_all_dim = 1 }, 64, 1, { 1, 0.562341332, 0.316227764, 0.177827939, 0.100000001, 0.0562341288, 0.0272181761, 0.0128290169, 0.00582142826, 0.00249036867, 0.000959977158, 0.000292145909, 2.49999994e-05, 1.40585325e-05, 7.90569447e-06, 4.44569832e-06 } },
    { { .kind = IR_ROPE_YARN, .theta = 10000, .dim = 32, .max_positions = 163840, .factor = 40, .original = 4096, .mscale = 0.707, .mscale_all_dim = 1 }, 64, 0.921042355, { 1, 0.562341332, 0.316227764, 0.177827939, 0.100000001, 0.0562341288, 0.0272181761, 0.0128290169, 0.00582142826, 0.00249036867, 0.000959977158, 0.000292145909, 2.49999994e-05, 1.40585325e-05, 7.90569447e-06, 4.44569832e-06 } },
    { { .kind = IR_ROPE_YARN, .theta = 1000000, .dim = 24, .max_positions = 32768, .factor = 4, .original = 8192 }, 64, 1.13862944, { 1, 0.316227764, 0.099999994, 0.0316227786, 0.0081249997, 0.0019764239, 0.000437500014, 7.90569611e-05, 2.49999921e-05, 7.90569356e-06, 2.50000085e-06, 7.90569231e-07 } },
    { { .kind = IR_ROPE_YARN, .theta = 150000, .dim = 32, .max_positions = 131072, .factor = 32, .original = 4096, .no_truncate = true }, 64, 1.34657359, { 1, 0.47478205, 0.225418001, 0.107024416, 0.0508132726, 0.0193350017, 0.00679495931, 0.00209379266, 0.000456483918, 3.83088118e-05, 1.8188337e-05, 8.63549576e-06, 4.09997847e-06, 1.94659629e-06, 9.24208962e-07, 4.38797855e-07 } },
    { { .kind = IR_ROPE_YARN, .theta = 10000, .dim = 16, .max_positions = 131072, .original = 4096, .beta_fast = 16, .beta_slow = 2, .attention_factor = 1.2 }, 64, 1.2, { 1, 0.316227764, 0.100000001, 0.0316227786, 0.00677083246, 0.00111997337, 3.12500015e-05, 9.88211832e-06 } },
    { { .kind = IR_ROPE_YARN, .theta = 100, .dim = 16, .max_positions = 163840, .factor = 40, .original = 4096 }, 64, 1.36888795, { 1, 0.562341332, 0.316227764, 0.177827939, 0.100000001, 0.0562341288, 0.0272181761, 0.0128290169 } },
    { { .kind = IR_ROPE_LONGROPE, .theta = 10000, .dim = 8, .max_positions = 131072, .original = 4096, .short_factor = rope_short, .long_factor = rope_long }, 64, 1.19023807, { 1, 0.095238097, 0.00800000038, 0.000500000024 } },
    { { .kind = IR_ROPE_LONGROPE, .theta = 10000, .dim = 8, .max_positions = 131072, .original = 4096, .short_factor = rope_short, .long_factor = rope_long }, 5000, 1.19023807, { 0.909090877, 0.0399999991, 0.00124999997, 3.17460326e-05 } },
    { { .kind = IR_ROPE_LONGROPE, .theta = 10000, .dim = 8, .max_positions = 8192, .original = 4096, .attention_factor = 1.5, .short_factor = rope_short, .long_factor = rope_long }, 64, 1.5, { 1, 0.095238097, 0.00800000038, 0.000500000024 } },
};
/* clang-format on */
