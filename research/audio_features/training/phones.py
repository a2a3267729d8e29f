"""Phone sets of the training voices, mapped to the encoder's inventory.

A phone without a counterpart in ARPAbet (a trilled r, a front rounded vowel) maps to UNKNOWN: it
is still a label for voice activity and pitch, but not for phones.
"""

from __future__ import annotations

from collections.abc import Mapping

from talkingface.contract.speech_features import PHONE_INDEX, PHONES

UNKNOWN = -1
# Every n-th of one GRID speaker's clips in sorted order is never trained on.
HELD_OUT_EVERY = 23

# Labels of the natural recordings: one index a frame. ARPAbet in alphabetical order
# with "sil" among them; 24 is unused.
NATURAL_FPS = 30
NATURAL_PHONES = (
    "aa", "ae", "ah", "ao", "aw", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g", "hh",
    "ih", "iy", "jh", "k", "l", "m", "n", "ng", "-", "ow", "oy", "p", "r", "s", "sh", "sil", "t",
    "th", "uh", "uw", "v", "w", "y", "z", "zh",
)  # fmt: skip


def _table(text: str) -> dict[str, int]:
    pairs = (item.split("=") for item in text.split())
    return {source: PHONE_INDEX[target] for source, target in pairs}


_SAME = {phone: index for phone, index in PHONE_INDEX.items()}
_CONSONANTS = _table("b=b d=d f=f g=g k=k l=l m=m n=n p=p s=s t=t v=v w=w z=z")

# CMU voices of flite and festival ("radio" phones).
RADIO: Mapping[str, int] = _SAME | _table(
    "ax=ah axr=er dx=d el=l em=m en=n hv=hh nx=n pau=sil h#=sil brth=sil #=sil _=sil ssil=sil"
)
ITALIAN: Mapping[str, int] = _CONSONANTS | _table(
    "i=iy i1=iy e=eh e1=eh E=eh E1=eh a=aa a1=aa o=ao o1=ao O=ao O1=ao u=uw u1=uw j=y S=sh Z=zh"
    " tS=ch dZ=jh ng=ng J=n L=l #=sil"
)
FINNISH: Mapping[str, int] = (
    _CONSONANTS
    | {f"{phone}:": index for phone, index in _CONSONANTS.items()}
    | _table(
        "a=aa a:=aa e=eh e:=eh i=iy i:=iy o=ao o:=ao u=uw u:=uw &=ae &:=ae @=ah h=hh h:=hh S=sh"
        " S:=sh N=ng N:=ng j=y j:=y T=th T:=th D:=dh Z:=zh #=sil ##=sil"
    )
)
CZECH: Mapping[str, int] = _CONSONANTS | _table(
    "a=ah a:=aa e=eh e:=eh i=ih i:=iy o=ao o:=ao u=uh u:=uw c~=ch ch=hh h=hh dz~=jh j=y n*=ng"
    " s~=sh z~=zh #=sil _=sil"
)
CATALAN: Mapping[str, int] = _CONSONANTS | _table(
    "ax=ah a=aa a1=aa e=eh e1=eh E=eh E1=eh i=iy i1=iy o=ao o1=ao O=ao O1=ao u=uw u1=uw S=sh"
    " Z=zh j=y #=sil _=sil pau=sil"
)
RUSSIAN: Mapping[str, int] = (
    _CONSONANTS
    | {2 * phone: index for phone, index in _CONSONANTS.items()}
    | _table(
        "ii=iy uu=uw ee=eh oo=ao aa=aa a=ah i=ih u=uh ch=ch sh=sh sch=sh zh=zh h=hh hh=hh j=y"
        " pau=sil #=sil"
    )
)
ESPEAK: Mapping[str, int] = _CONSONANTS | _table(
    "a=aa A:=aa A@=aa aa=ae V=ah @=ah a#=ah O=ao O:=ao O@=ao 0=aa aU=aw aI=ay E=eh e@=eh 3=er"
    " 3:=er @L=l"
    " eI=ey I=ih I2=ih I#=ih i@=iy i=iy i:=iy oU=ow OI=oy U=uh U@=uh u:=uw tS=ch D=dh h=hh dZ=jh"
    " N=ng r=r r-=r S=sh T=th j=y Z=zh t#=d t2=t n-=n _:=sil _=sil _|=sil ;=sil"
)

# International phonetic alphabet as espeak writes English; diphthongs and affricates are joined
# by `ipa_phones`.
IPA: Mapping[str, int] = _CONSONANTS | _table(
    "ɑ=aa æ=ae ʌ=ah ə=ah ɐ=ah ɔ=ao ɒ=aa ɛ=eh ɜ=er ɚ=er ɪ=ih i=iy ʊ=uh u=uw o=ow e=ey a=ay ᵻ=ih"
    " ð=dh ɡ=g h=hh ŋ=ng ɹ=r ʃ=sh θ=th j=y ʒ=zh ɾ=d ʔ=t"
)
IPA_PAIRS: Mapping[str, int] = _table("aɪ=ay aʊ=aw eɪ=ey oʊ=ow ɔɪ=oy tʃ=ch dʒ=jh")

# Phones of other languages: the nearest one in ARPAbet, for forced alignment, and the label,
# UNKNOWN where lips or tongue differ from those of the nearest one.
_NEAR = _table(
    "c=t ɟ=d ɱ=m ɦ=hh χ=hh ɲ=n ʝ=y ɭ=l ɫ=l ɕ=sh ʂ=sh ʑ=zh ʐ=zh ɵ=uh ɨ=ih ɑ̃=aa ɔ̃=ow ɛ̃=ae œ̃=ae ʋ=v"
)
_NEAR_WITH_OTHER_LIPS = _table("ʏ=uh β=v ɣ=g x=hh r=d ʁ=hh y=iy ø=er œ=er ʎ=l ɥ=w")
IPA_NEAREST: Mapping[str, tuple[str, int]] = {
    symbol: (PHONES[index], index) for symbol, index in {**IPA, **IPA_PAIRS, **_NEAR}.items()
} | {symbol: (PHONES[index], UNKNOWN) for symbol, index in _NEAR_WITH_OTHER_LIPS.items()}

# Names of pauses in forced alignments.
SILENCES: Mapping[str, int] = dict.fromkeys(
    ["sil", "<sil>", "+spn+", "+nsn+", "<s>", "</s>"], PHONE_INDEX["sil"]
)
