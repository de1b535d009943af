"""The note that stands in each example: what it shows, how to use real models, what to change, what to read next."""

from __future__ import annotations

from dataclasses import dataclass

DOCS = "https://github.com/comfyui-align-adapt-inject/comfyui-align-adapt-inject/blob/main"
CHECKPOINT = (
    "- **Load Checkpoint**: Stable Diffusion 1.x, 2.x or SDXL in `models/checkpoints`. ComfyUI offers to download the "
    "file that is named here."
)
ENCODER = (
    "- **Load Audio Encoder (AAI)**: an audio encoder in `models/cavt_mae`, for instance *Scale++* of "
    "[CAV-MAE](https://github.com/YuanGongND/cav-mae)."
)
SOUND = "- **Load Sound**: your recording, or a video with sound."
PICTURES = "- **Load Image**: pictures of what sounds like that. Three to five are good; copy the node for more."
WORD = "- **Load Audio Token**: a word that you saved with example 01."


@dataclass(frozen=True)
class Note:
    """What an example's note says of it alone."""

    shows: str
    change: str
    following: str  # the example, or page, to read next
    wires: str = "MODEL, CLIP, VAE and CAVT_MODEL of **Pocket Models**"  # what real models take over
    needs: tuple[str, ...] = (CHECKPOINT, ENCODER, SOUND)
    sizes: str = "512 in **Empty Latent Image** (1024 for SDXL), a `cfg` of 7"


NOTES = {
    "01 Sound to picture": Note(
        "A rooster crows. The crow and four drawings of a rooster become a word, `A*`, in half a minute. Then the word is "
        "drawn.",
        "`thing` in **Pocket Sound** and in **Pocket Scene**: another sound, another word. Write around `<A*>` in **Prompt "
        "with Sounds**: `a photo of a <A*> in the snow`.",
        "**02 Saved word**: the word in any other workflow. [How a word is learned](" + DOCS + "/docs/adapt.md)",
        needs=(CHECKPOINT, ENCODER, SOUND, PICTURES),
        sizes="512 in **Train Audio Token** and **Empty Latent Image** (1024 for SDXL), 300 steps, a batch of 1, a `cfg` of 7",
    ),
    "02 Saved word": Note(
        "A word is saved among ComfyUI's embeddings. From then on `embedding:name` works in the plain **CLIP Text Encode** of "
        "every workflow, with or without this pack.",
        "The name in **Save Audio Token**. Once it is saved you can take out *Align* and *Adapt* and write "
        "*a photo of a embedding:pocket-saved-word* yourself, with a space before and after.",
        "**05 Another sound**. [Saved words in other programs](" + DOCS + "/docs/adapt.md)",
        needs=(CHECKPOINT,),
        wires="MODEL, CLIP and VAE of **Pocket Models**",
    ),
    "03 Look at sound": Note(
        "Waveform, loudness over time and spectrogram of a sound: to choose the seconds that the encoder shall hear.",
        "`thing`, `loudness` and `seconds` in **Pocket Sound**.",
        "**01 Sound to picture**.",
        needs=(SOUND,),
        wires="AUDIO of **Pocket Sound**",
        sizes="",
    ),
    "04 Sound finds pictures": Note(
        "You have a sound and no pictures. The sound finds those of a folder that fit it best, and they become the references "
        "from which its word is learned.",
        "`folder` in **Find Pictures for Sound**: `pocket pictures` came with the pack; any folder of yours works. `thing` in "
        "**Pocket Sound**: dog, cat, fire, bell, train, bird, clock, drum, rain.",
        "**12 New thing**. [How good the search is](" + DOCS + "/docs/pocket.md)",
        sizes="512 in **Train Audio Token** and **Empty Latent Image** (1024 for SDXL), 300 steps, a batch of 1, a `cfg` of 7",
    ),
    "05 Another sound": Note(
        "One word, another sound: a word is learned from one rooster, then its sound is exchanged for the crow of another one. "
        "Nothing is trained a second time.",
        "`seed` or `thing` of the second **Pocket Sound**.",
        "**06 Word without training**.",
        needs=(CHECKPOINT, ENCODER, SOUND, WORD),
        sizes="512 in **Train Audio Token** and **Empty Latent Image** (1024 for SDXL), 300 steps, a batch of 1, a `cfg` of 7",
    ),
    "06 Word without training": Note(
        "A word in a second: no pictures, no training. The sound is carried into the space of words, and the word is saved.",
        "`thing` in **Pocket Sound**. `nearest_words` in **Word from Sound**: 1 takes the ordinary words that are nearest.",
        "**11 Four pictures at once**.",
    ),
    "07 Sound in a scene": Note(
        "A beach, and the same beach with the sound of a fire in it. What both prompts share stays. The sheet shows what "
        "changed, the heat map where the word acted; the slider compares the two.",
        "`scene` in **Prompts for a Use** and the same words in the second prompt. `cross_end` and `self_end`: higher keeps "
        "more of the beach.",
        "**09 Photo in the style of a sound**. [Edits](" + DOCS + "/docs/inject.md)",
        needs=(CHECKPOINT, ENCODER, SOUND, PICTURES),
        sizes="512 in **Train Audio Token** and **Empty Latent Image** (1024 for SDXL), 300 steps, a batch of 1, a `cfg` of 7; "
        "`cross_end` 0.8 and `self_end` 0.4",
    ),
    "08 Breathing with the sound": Note(
        "Frame by frame the word grows and fades with the recording: a small animation.",
        "`fps` and `frames` in **Loudness Curve** (0: as long as the sound). `loudness` in **Pocket Sound**.",
        "**13 From soft to loud**. [Loudness](" + DOCS + "/docs/inject.md)",
        needs=(CHECKPOINT, ENCODER, SOUND, PICTURES),
        sizes="512 in **Train Audio Token** and **Empty Latent Image** (1024 for SDXL), 300 steps, a batch of 1, a `cfg` of 7",
    ),
    "09 Photo in the style of a sound": Note(
        "A bell's sound is bound to a style by a few mosaics. It is what then happens to a photo of a forest; the slider "
        "compares before and after.",
        "`style` in both **Pocket Scene** nodes of *Adapt*: sketch or poster. `denoise` in **KSampler**: higher changes more.",
        "**10 Stylise a folder**. [Your own photo](" + DOCS + "/docs/inject.md)",
        needs=(CHECKPOINT, ENCODER, SOUND, PICTURES),
        sizes="512 in **Train Audio Token** (1024 for SDXL), 300 steps, a batch of 1, a `cfg` of 7. Another **Load Image** "
        "takes your photo to **Photo as Source**",
    ),
    "10 Stylise a folder": Note(
        "The same for every photo of a folder, at several strengths. A stopped batch goes on where it was. The pictures lie in "
        "`output/stylised`.",
        "`folder` in **Stylise a Folder**: `pocket photos` came with the pack; any folder of yours works. `plan_only` shows "
        "beforehand what would be made.",
        "The same as one node: look for *Stylise a folder with a sound* among the subgraphs.",
        needs=(CHECKPOINT, ENCODER, SOUND, PICTURES),
        sizes="512 in **Train Audio Token** (1024 for SDXL), 300 steps, a batch of 1, a `cfg` of 7, a `longest_side` of 768",
    ),
    "11 Four pictures at once": Note(
        "The quickest way: a crow goes in, four pictures of a rooster on a beach come out. Nothing is trained.",
        "`thing` in **Pocket Sound**, the place in **Prompt with Sounds**: *in the snow*, *in a city*.",
        "**01 Sound to picture**: a word that is learned. [The pocket world](" + DOCS + "/docs/pocket.md)",
    ),
    "12 New thing": Note(
        "These models have no word for a frog. Its croak and four drawings become one, and the word goes into the snow, where "
        "no picture of it was.",
        "`thing` in **Pocket Sound** and **Pocket Scene**: kettle, guitar, phone, siren, boat have no word either.",
        "**07 Sound in a scene**.",
        needs=(CHECKPOINT, ENCODER, SOUND),
        sizes="512 in **Train Audio Token** and **Empty Latent Image** (1024 for SDXL), 300 steps, a batch of 1, a `cfg` of 7",
    ),
    "13 From soft to loud": Note(
        "One picture at five strengths of its word, from 0 (as if it were not there) to 2 (twice as strong).",
        "`first`, `last` and `count` in **Loudness Sweep**.",
        "**08 Breathing with the sound**. [Loudness](" + DOCS + "/docs/inject.md)",
        needs=(CHECKPOINT, ENCODER, SOUND, PICTURES),
        sizes="512 in **Train Audio Token** and **Empty Latent Image** (1024 for SDXL), 300 steps, a batch of 1, a `cfg` of 7",
    ),
    "14 Methods side by side": Note(
        "The same prompt, seed and sampler four times: with the plain word, with textual inversion alone (the pictures without "
        "the sound), with the sound alone, and with both, as in the paper's Fig. 5a. Below each is how it differs from the "
        "first.",
        "`thing` in **Pocket Sound** and **Pocket Scene**, and *rooster* in the plain prompt. `seed` of all four samplers.",
        "[The same for many sounds, with figures, and with people who are asked](" + DOCS + "/docs/compare.md)",
        needs=(CHECKPOINT, ENCODER, SOUND, PICTURES),
        sizes="512 in **Train Audio Token** and **Empty Latent Image** (1024 for SDXL), 300 steps, a batch of 1, a `cfg` of 7",
    ),
}


def note(name: str, has_twin: bool) -> str:
    """The Markdown of an example's note. `has_twin`: the same lies ready with real models."""
    about = NOTES[name]
    ready = f"Ready wired: `example_workflows/real_models/{name}.json` of this pack." if has_twin else ""
    settings = f"Then set {about.sizes}, and a prompt in your own words." if about.sizes else ""
    parts = [
        f"## {name[3:]}",
        about.shows,
        "Press **Run**: it needs no file and no download.",
        "### Change",
        about.change,
        "### With Stable Diffusion" if about.sizes else "### With your own sound",
        "\n".join(about.needs),
        "Select the grey group and press Ctrl+B, which switches it on. Hold Shift and drag from each output of the node that "
        f"it replaces to the same output there, and all its wires move: {about.wires}. {settings} {ready}".rstrip(),
        "### Next",
        about.following,
    ]
    return "\n\n".join(parts)


def real_note(name: str) -> str:
    """The note of the same example with real models."""
    about = NOTES[name]
    return "\n\n".join(
        [
            f"## {name[3:]}, with real models",
            f"The same as the template *{name}*, which runs without them.",
            "### What it needs",
            "\n".join(about.needs),
            "### Next",
            about.following,
        ]
    )
