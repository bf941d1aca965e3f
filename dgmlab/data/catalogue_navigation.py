"""The files of Matterport3D's navigation data: sha256 of each, and where the files of each folder come from.

All of it derives from Matterport3D (Chang et al. 2017) and falls under its terms of use: non-commercial academic research,
with a link to the terms. A table holds one file a line, its name and its sha256. The addresses name a commit; the contents of
these commits were compared with the sums. Files without an address were packed from many small ones of the source named there.
"""

# <scan>_connectivity.json of the 90 houses
CONNECTIVITY = """
    17DRP5sb8fy 3a418cd67154c5c29f13c4b666eb4b099f57cf2a3217c0629344551d54656022
    1LXtFkjw3qL 5f6f920a8406be3944d327900c7f33bfd603f20b2a668ae55192f9e97a6f4b66
    1pXnuDYAj8r f7c9345a17ff416ff22815d9a1b3c59a946e49f4989edd7ecf1c44cabc6730cf
    29hnd4uzFmX dc3c49bf48cb4fd4a40561c24608fc799bbfca1f44a39da83f632a1ab9c48197
    2azQ1b91cZZ 76a3bc8ac818117334a8a31b6adad5ab65947bda27f755bdc478690b171499b8
    2n8kARJN3HM 356ecab3fe8ec66a97bf57eb2bdbc44a892e063e108e3dec083c5bc973a12559
    2t7WUuJeko7 826a487ec51c78988ab1594a18c559499217a44bbc219586af31e17f69b4553e
    5LpN3gDmAk7 2b24541c87a08fdb98d1cd7665cf803a4be7bec146d3339d47b093d58f0152e4
    5ZKStnWn8Zo d69b3ce20ea89a6bc1fe17f09f8c015068becddaacf07e8c4f5b958a9f9d8394
    5q7pvUzZiYa cf54f94f79b2e9e21b9dc7da56b9cbe17bbfae6bf53ddc5b30dc8dfa9b687c09
    759xd9YjKW5 536c637941aca68e2084c8fa2118860340c4d074f2e3fc1eadf8a551da32de53
    7y3sRwLe3Va d24f3942075fe72fc081fc439e305fd765a235005247981db6aebf0eec9641fe
    8194nk5LbLH a296581317baf7ef135424ce3fa181ef722f0568d1acaa4a1be41a0ab9028e29
    82sE5b5pLXE 3824204bb9439cc110e8e81bf424e741539a00fc0890de78b2ba11036163848f
    8WUmhLawc2A 4f41c327d879b4eeb436702b68c9483313d9a39cc6c09fe75276d07c04775a30
    ARNzJeq3xxb 8ead012efbcaf7ba4d49dfb5dc90adad70a449caa37454c79964f4af3fd7bd1a
    B6ByNegPMKs 49d2316a4d234842dd1ad210d48e6a2aa092f0e52d6677cfc9104187f316c9d9
    D7G3Y4RVNrH d1922d48fc90a00607aebc2dff518c1ed94079a2a79862fa2d21b3842644a9d1
    D7N2EKCX4Sj 8acc56b8f977f311eab7a440e7f00f345782678615efc2099c84fbef93aad9fc
    E9uDoFAP3SH 146f9722fccc69d968920437c204436135d9ec76e462a25e693397ed8a3c2fba
    EDJbREhghzL 786e3d0935a8c99d7210abf03ff73893ca14f9686e98e73b583e655fddc6afe2
    EU6Fwq7SyZv 24783fe20e9cad1785097f7c079928df4fa13f62fe57c9f03539b66461fe723b
    GdvgFV5R1Z5 85377027c7ed3de5f3a48ff2f27746ad838cef78e35433fe969150f5168a8985
    HxpKQynjfin 17d6f634a3b495ace01c41fa84391b8c8a22a5d62b58d1c364cb23b22adeb1b2
    JF19kD82Mey b1bff5c02c38b92f9d65166125015e864055e917bc5ec82ecd329e5fc39ee48d
    JeFG25nYj2p 03ca7058be35acf06c0547855b33a3fec982f383e8c261b8b0851b56ddb3431f
    JmbYfDe2QKZ bbd21c28da7674425ae8d6de662ceef67482aae561d29bf579ac0d7c91be5cf2
    PX4nDJXEHrG 5c12c9453f7fe456ad84b1000a0b1b471013b0aee9669dcca243d008f3467c6c
    Pm6F8kyY3z2 2164a84663ffb0640582613787ab3a12b7e17fa275db4d02fe8e7405416086d1
    PuKPg4mmafe 5d80e1975787b91d2af3b2bd5bed70059bfa65e18dd8af273f197d15461bf13b
    QUCTc6BB5sX 9a981fe276f158d4df3cf9cb11a88eaba14af152608c50d8b1decdd5b0234c07
    RPmz2sHmrrY f43949bc86d3a1874e5e151cb5c2da978a2b737067011804def4febfb26375f9
    S9hNv5qa7GM 04554b82c7083c22563f5ba2502bd57a46b2baabdad1e4d835711550a7e3096a
    SN83YJsR3w2 c8399c9c399e6d1e900e23664dd01d91d1a71c7cc277b53d3ffb8ec1f3611090
    TbHJrupSAjP a78bdbec967ee368644a940f79fdaeb4a2922e11a477fd08471990a83eaf23f3
    ULsKaCPVFJR 565533c1617620fbcc6b7585beb90c4807fb779cd47f87f2360c7970bd89d361
    UwV83HsGsw3 a33ec3b7e973ba98cc527b2e52bcce820b0340a8727d193dee7f7a5b8aace743
    Uxmj2M2itWa 60e3d96ff53abf2e02617c08f487122ad1de7dfcfe411162b130493e4b7b3ed9
    V2XKFyX4ASd 16d0e0af6521423e2eddb05805ba3bba7b569cb99b099a96493191e145df2ed9
    VFuaQ6m2Qom afa8637b047cf53137b22ffffddd67caac9f279f2c3d5f12de81772e463edf6e
    VLzqgDo317F e9201eac9463c8889667079f0a61febab3a69f3d06bc545c5a9eb0e3b7db214e
    VVfe2KiqLaN a2a04a0f20261e3502c5e97216e8750b64ce2cca6bf8052dc7fef9703f653a66
    Vt2qJdWjCF2 621a2ea44788992a6ab7a33f435de64cc9ecbfa9cdd91f92c26fdbac4f1d3f43
    Vvot9Ly1tCj 21a9c430e474355a113a421f72fb2d518fae2c3f4f96e770cb3f6589b143f780
    VzqfbhrpDEA 6b5c2dca3b87098c22321955b8c004982eee15a1257923fc5bf5e004cd89c608
    WYY7iVyf5p8 76d7bd77e6a087762fdf747257b18b39730e0b45f81c4a15b93847ed37a168a8
    X7HyMhZNoso b1c40a2686badb0eec29e1f2c1406714a385e7563f3f1abe20e610a548e1cb2a
    XcA2TqTSSAj da5917f7440e48e6a2d2d24773ab833c14c36e1cf39533906f0f79dd3aeab06a
    YFuZgdQ5vWj b499c15684e5ccab7906c7a5c58c08712c9fe1ab9636ef4bbb555c41effedc00
    YVUC4YcDtcY e5a2558851816eab9d2d45549402ffdc14614593aaabe26f4aad7a057530b0b9
    YmJkqBEsHnH 326a11bb6c716897c04a55e038c067d3b4969f446c82b515441640a2afe9cb43
    Z6MFQCViBuw 2c0646677c1042939ee32bf725e98b101334bcd381ac8354277c3c98231e691c
    ZMojNkEp431 e9208f6ed9bb4d0d57578083b06a8df1c4c9aa1957a01b5dc58fcfc923f00646
    aayBHfsNo7d 57a108e8c2e9262fb6f3fe846a2c535d7166fcd1c466df71add2a58a0955b877
    ac26ZMwG7aT f4c81bdba32c0f87804c173cf748799cb74be1fbb963cbaa252770db8790207a
    b8cTxDM8gDG b9c962eb82d8ceae153f322747c0b807467a7b2e947d63a902e1efdc0a1f5143
    cV4RVeZvu5T 66de3ebf90f7ad3f3f1c2e490452d10233e1fafbbf2c914db871da4aea1e81a4
    dhjEzFoUFzH db4241a7c0fc3b7ca44c260e64aa6e3b86c6a28e021bdc1f81d0ecfb2f6c8171
    e9zR4mvMWw7 b46dd26e1fd984ff5ac3ceeee2aa1580a69f5dc5cb0a6dbb013c60e4dbae3131
    fzynW3qQPVF 3459c760162bef6fb7616e6fc1818190bf2ed0fa771583561108a5923f965914
    gTV8FGcVJC9 d72d87587925a8fba34ce875e720657dae1d8cf27b6b8a4164def1e2a053fa60
    gYvKGZ5eRqb 2d3464629b3e645eba8c8f4a374f8511756398bdc2cdd3ed9232e292782e61c1
    gZ6f7yhEvPG df9da982d5a4041c3112b0122ef44aec93da7e10040b5cc1fe06e8675babaf70
    gxdoqLR6rwA 6cc0e35d11dc8ebb31655cb47168b7f17e02c2267cae577599888c358d2d7c43
    i5noydFURQK ef3fff9b49b8f23536fde2963c63d11b5a84cf117411651d8f693d1d521f9bdf
    jh4fc5c5qoQ a99b37fa90173a0855c9d3962cd902be6c0d3f9109f29485460ebe1cdb877159
    jtcxE69GiFV 83642ff57afc897a97c5dfb3e9fbd317c0ef7a6b6ec4d8ca648acb1948edffe6
    kEZ7cmS4wCh 712fa3198658051ec014e1dd5ff82a304d7de01c43d27b1d74f6cefa7445832b
    mJXqzFtmKg4 f3b9678ca6c657a2957c390ce7b33d661438cc9f231ba8767f628fbc96bc8ac1
    oLBMNvg9in8 7037419d71cf679fcd7115802c32f4b12caea3d4aea5d2dec7e21ab898ceb09b
    p5wJjkQkbXX b72488d93eca5a9566a371885822a95f8bea27be9e01ba6c52295d9a6302e328
    pLe4wQe7qrG ae68e194ace32a82a14557ca8dc511df8d8e157bf0809a115f0169c4b6c05dfb
    pRbA3pwrgk9 76a52705a25cbd615f5f986848491082722f1fde0f087d67b760b40b05106c97
    pa4otMbVnkk 5d17ee7683570f84e97fd03a55ebec72469edbceebd271e092f54b2c5c101cf2
    q9vSo1VnCiC 33216ecbe81e427974df271340a5b536dabd933696e1ade250141e1b8bd6b454
    qoiz87JEwZ2 47197fbf5029c69fd95ab9413caa1e9ada41fd1ddf41a18ebdaed8faa4299288
    r1Q1Z4BcV1o 670a4e6a16aabfa29a28958fbc915df5c56fcd5e7a009df5137f20c47553fbd2
    r47D5H71a5s f2d7d83dc4bcfd357a399f72debfe27c8a8cd47d08209e683e74f8a6245302fd
    rPc6DW4iMge a02f63f7e161c527f20f52af7fd3cd8bf07b94822d6624d8e365afa4369d5b27
    rqfALeAoiTq bd38d6d976d1a146ba3231d22cb124d2446b8e1ccd0908bf2c23385bc0ddbce2
    s8pcmisQ38h c661eac63f82f1697fc22900b8781270d60cb603762c15ad0a8ac6c3a7bf6bc3
    sKLMLpTHeUy efc71f060a552d4ad2b7bd046c9574aeb2503d5eae925ac46e2427c206e7c3ec
    sT4fr6TAbpF b53e5eae6cde845841e74a981511f78dfa1803c8094dc1f5d20ed3911ffd1db2
    uNb9QFRL6hY 839ceca94f222fdc72908cb7a0f16c6be68e8310829331ede7e9435f10d71ee3
    ur6pFq6Qu1A 63c66c2efbcfac5bdee18b3f3e7d8996775d49732dffd482a7f04733e2c4a7eb
    vyrNrziPKCB f6ffbe3d19e2ca67db664f565318e01970fb746d889a02e96e6de28faee174b5
    wc2JMjhGNzB 35e5b196f7cf31b3532b296a760fd01d255326834b7af15abebee287f93176d4
    x8F5xyUWy9e 86f9ebff3b183d6e31e3efa072b6f2d78317b0e175dc77206ded243bfbf82cd2
    yqstnuAEVhm b51739e02248dfbdaeaaf2655bda060ed9e9517e6ba9d85c72f61ab2fefc726c
    zsNo4HB9uLZ 2b345bff1411860f5ccbbef079f8ff327c271c8ebc10947771d1cea02699d5a2
"""
SCANS = """
    README.md ea113324009688fd92355d47ee535fa0bd5a5d0959c5ce917c9b433021f2f69d
    scans.txt a09a1f19b6facc68dfb240110b4ff2183bd2b5a5af61badbdcd234319ccd3c39
"""
R2R = """
    R2R_test.json f7e28b527ab7fd209010439b327269c18d315888c68ecc81486ef20d58046f10
    R2R_train.json f640b790f93a2574ba642518b2feafbf49db08c700bc0327bfa751b97506e5ef
    R2R_val_seen.json 755633db9d5e64d5ca71d329c5046bb722781a09f0d1d501d7e8d094c83652ec
    R2R_val_unseen.json 1cc730adc1c098998ac9191462849fc725e0c5336984a35bfbac7d5f044e682c
"""
FGR2R = """
    FGR2R_test.json 986ea63127256bc28d23e27a7a14a5117b8cbc15109f7b6c9dc1482af2b210e8
    FGR2R_val_seen.json 7e8c4b516ac896b340c3e2d5e898343359b5748f687d74718a23cbf4acf6e166
    FGR2R_val_unseen.json 9f15b5ac72b444e02d61c4eac44935508cf3c6cf2d8fdd5a0e13df3f52accbf0
"""
NDH = """
    README.md ff745db59f0ee814bc1aa529cdf82cacb2d712306f0d748a6fca5ff00222ae69
    train_vocab.txt f3c6c76838ae9c47badbc1b42e00112509f72878abb37ab95697da7614e5ab72
    trainval_vocab.txt 99a8a7a049da1f3a2fb1a1fd3a55d1e1838d9e5df3971e79b08ac34c1c30b5f9
    val_seen.json 9fc7963ffcb41a8e592db21eb6201e910096c3d3921bceb670a22f683f31f273
    val_unseen.json 7cf9e3ccc5f45286ce1a333232e384f73fceb7b40da1d6f2b3f6e96c742efc5f
"""
REVERIE = """
    REVERIE_test.json 8b8482ed3252abe194f9e0007bd9486a9b0a5aa55f09a93a546f119afc096afa
    REVERIE_train.json 67ce4fd05a0eaf6fd3bb7dad32d671330e7a91fa8dedfc5ca8f002a7304aceb4
    REVERIE_val_seen.json 6776ce0c5e8c2c928742c05c693a353e30e15fab293e441991c65f700a876b61
    REVERIE_val_unseen.json c150d0ffec4484a45c710ad240ae6b62ffa05626c2bb46a9d69ac93fa6124de5
"""
OBJECTS = """
    objects_by_viewpoint.json.gz 7bf5ad02df709d952d631eca27b3e1d279290b315a403de0db2e0d900a4da331
"""
REGIONS = """
    house_obj_regions.json 2c7acd8ff11abccead49881b65af4bf071311eca5e5cf0862856749766e0c95e
    house_region_to_panorama.json 8680ab85c2d68d2931b9129c8172608d068bcba688c9f29dcc915b452187da96
    house_target_tuple.json d83de3706adbaf6dc96a1d97f44bdf7cf639a080787ed4c7c244524ade573b9e
"""
ROOM_LABELS = """
    room_label_by_panorama.json 1c400d2618d1f29e3e980ac6ea5d9ce8d2cb3661fb71113238bf452dd7c66b6c
"""
HANNA = """
    accepted_objects.txt fc8837e4332d6547ca47caaa28704e5f414017a8c21bb8c115908b3a7251ab13
    region_label.txt 85f18c47b2032e2cbde79009d42c427e76f57072ef656c6cde5fc09342c732a7
"""
VOCAB = """
    train_vocab.txt 5e35817e16eea0eb7ad24b41cd153776b13c9976cc65fa583e691e8ac5c0cec0
    trainval_vocab.txt eed3624ed64c42a89b23b3e28f8b0548b28dcf3f6ff05b5efd3303bc3244ea58
"""

SIMULATOR = "peteanderson80/Matterport3DSimulator/589d091b111333f9e9f9d6cfd021b2eb68435925"
FINE_GRAINED = "YicongHong/Fine-Grained-R2R/305ed4cd219d79306bc38650899edc14cfdcfb69"
PREVALENT_R2R = "weituo12321/PREVALENT_R2R/868fb53d6b7978bbb10439a59e65044c811ee5c2"
REVERIE_TASK = "YuankaiQi/REVERIE/0fe0955705c4c998729c33f59b1a4e965ab86e27"
CVDN = "mmurray/cvdn/97a4ae94702d6f7b90bc92683e6d02e4437ac605"
HANNA_TASK = "khanhptnk/hanna/dcee3f7a8d82b6723fcca6e5431c2a103d948d59"
ENVDROP = "airsplay/R2R-EnvDrop/6f938abcf2db999c0118c7e548d8357ab8f006db"

# folder of the corpus, folder of the source ('' where there is no address), table, what follows each name
MATTERPORT = (
    ("connectivity", f"{SIMULATOR}/connectivity", CONNECTIVITY, "_connectivity.json"),
    ("connectivity", f"{SIMULATOR}/connectivity", SCANS, ""),
    ("R2R", f"{FINE_GRAINED}/source/R2R-original", R2R, ""),
    ("FGR2R", f"{FINE_GRAINED}/data", FGR2R, ""),
    ("NDH", f"{PREVALENT_R2R}/tasks/NDH/data", NDH, ""),
    ("REVERIE", f"{REVERIE_TASK}/tasks/REVERIE/data_v2", REVERIE, ""),
    ("REVERIE", "", OBJECTS, ""),  # YuankaiQi/REVERIE, tasks/REVERIE/data/BBox, 10,567 files
    ("regions", f"{CVDN}/web/mturk/scripts/resources", REGIONS, ""),
    ("regions", "", ROOM_LABELS, ""),  # niessner/Matterport@8cd7c81, region classification
    ("HANNA", f"{HANNA_TASK}/data", HANNA, ""),
    ("vocab", f"{ENVDROP}/tasks/R2R/data", VOCAB, ""),
)
