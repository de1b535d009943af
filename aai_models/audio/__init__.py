"""Sound: decoding, resampling, the encoder's spectrogram (Kaldi fbank), loudness (BS.1770)."""
