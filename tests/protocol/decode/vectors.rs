//! The test vectors of BIP 341 (`wallet-test-vectors.json`), as they stand there.

use bitcoin::consensus::encode::serialize;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Amount, ScriptBuf, Sequence, TxOut, Witness};
use spilman::transcript::{decode, ItemRole, Problem, SpendKind, StackItem};

use super::build::{funded, spend};

/// `keyPathSpending[0].auxiliary.fullySignedTx`
const SIGNED: &str =
    "020000000001097de20cbff686da83a54981d2b9bab3586f4ca7e48f57f5b55963115f3b334e9c01000000000000\
    0000d7b7cab57b1393ace2d064f4d4a2cb8af6def61273e127517d44759b6dafdd990000000000fffffffff8e1f5\
    83384333689228c5d28eac13366be082dc57441760d957275419a41842000000006b4830450221008f3b8f8f0537\
    c420654d2283673a761b7ee2ea3c130753103e08ce79201cf32a022079e7ab904a1980ef1c5890b648c8783f4d10\
    103dd62f740d13daa79e298d50c201210279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16\
    f81798fffffffff0689180aa63b30cb162a73c6d2a38b7eeda2a83ece74310fda0843ad604853b0100000000feff\
    ffffaa5202bdf6d8ccd2ee0f0202afbbb7461d9264a25e5bfd3c5a52ee1239e0ba6c0000000000feffffff956149\
    bdc66faa968eb2be2d2faa29718acbfe3941215893a2a3446d32acd050000000000000000000e664b9773b88c09c\
    32cb70a2a3e4da0ced63b7ba3b22f848531bbb1d5d5f4c94010000000000000000e9aa6b8e6c9de67619e6a3924a\
    e25696bb7b694bb677a632a74ef7eadfd4eabf0000000000ffffffffa778eb6a263dc090464cd125c466b5a99667\
    720b1c110468831d058aa1b82af10100000000ffffffff0200ca9a3b000000001976a91406afd46bcdfd22ef94ac\
    122aa11f241244a37ecc88ac807840cb0000000020ac9a87f5594be208f8532db38cff670c450ed2fea8fcdefcc9\
    a663f78bab962b0141ed7c1647cb97379e76892be0cacff57ec4a7102aa24296ca39af7541246d8ff14d38958d4c\
    c1e2e478e4d4a764bbfd835b16d4e314b72937b29833060b87276c030141052aedffc554b41f52b521071793a6b8\
    8d6dbca9dba94cf34c83696de0c1ec35ca9c5ed4ab28059bd606a4f3a657eec0bb96661d42921b5f50a95ad33675\
    b54f83000141ff45f742a876139946a149ab4d9185574b98dc919d2eb6754f8abaa59d18b025637a3aa043b91817\
    739554f4ed2026cf8022dbd83e351ce1fabc272841d2510a010140b4010dd48a617db09926f729e79c33ae0b4e94\
    b79f04a1ae93ede6315eb3669de185a17d2b0ac9ee09fd4c64b678a0b61a0a86fa888a273c8511be83bfd6810f02\
    47304402202b795e4de72646d76eab3f0ab27dfa30b810e856ff3a46c9a702df53bb0d8cc302203ccc4d822edab5\
    f35caddb10af1be93583526ccfbade4b4ead350781e2f8adcd012102f9308a019258c31049344f85f89d5229b531\
    c845836f99b08601f113bce036f90141a3785919a2ce3c4ce26f298c3d51619bc474ae24014bcdd31328cd8cfbab\
    2eff3395fa0a16fe5f486d12f22a9cedded5ae74feb4bbe5351346508c5405bcfee0020141ea0c6ba90763c2d3a2\
    96ad82ba45881abb4f426b3f87af162dd24d5109edc1cdd11915095ba47c3a9963dc1e6c432939872bc49212fe34\
    c632cd3ab9fed429c4820141bbc9584a11074e83bc8c6759ec55401f0ae7b03ef290c3139814f545b58a9f812725\
    8000874f44bc46db7646322107d4d86aec8e73b8719a61fff761d75b5dd9810065cd1d";

/// `utxosSpent`: the amount in satoshi and the script.
#[rustfmt::skip]
const SPENT: [(u64, &str); 9] = [
    (420_000_000, "512053a1f6e454df1aa2776a2814a721372d6258050de330b3c6d10ee8f4e0dda343"),
    (462_000_000, "5120147c9c57132f6e7ecddba9800bb0c4449251c92a1e60371ee77557b6620f3ea3"),
    (294_000_000, "76a914751e76e8199196d454941c45d1b3a323f1433bd688ac"),
    (504_000_000, "5120e4d810fd50586274face62b8a807eb9719cef49c04177cc6b76a9a4251d5450e"),
    (630_000_000, "512091b64d5324723a985170e4dc5a0f84c041804f2cd12660fa5dec09fc21783605"),
    (378_000_000, "00147dd65592d0ab2fe0d0257d571abf032cd9db93dc"),
    (672_000_000, "512075169f4001aa68f15bbed28b218df1d0a62cbbcf1188c6665110c293c907b831"),
    (546_000_000, "5120712447206d7a5238acc7ff53fbe94a3b64539ad291c7cdbc490b7577e4b17df5"),
    (588_000_000, "512077e30a5522dd9f894c3f8b8bd4c4b2cf82ca7da8a3ea6a239655c39c050ab220"),
];

/// `inputSpending`: the input, the hash type and the digest.
#[rustfmt::skip]
const KEY_PATHS: [(usize, u8, &str); 7] = [
    (0, 3, "2514a6272f85cfa0f45eb907fcb0d121b808ed37c6ea160a5a9046ed5526d555"),
    (1, 131, "325a644af47e8a5a2591cda0ab0723978537318f10e6a63d4eed783b96a71a4d"),
    (3, 1, "bf013ea93474aa67815b1b6cc441d23b64fa310911d991e713cd34c7f5d46669"),
    (4, 0, "4f900a0bae3f1446fd48490c2958b5a023228f01661cda3496a11da502a7f7ef"),
    (6, 2, "15f25c298eb5cdc7eb1d638dd2d45c97c4c59dcaec6679cfc16ad84f30876b85"),
    (7, 130, "cd292de50313804dabe4685e83f923d2969577191a3e1d2882220dca88cbeb10"),
    (8, 129, "cccb739eca6c13a8a89e6e5cd317ffe55669bbda23f2fd37b0f18755e008edd2"),
];

/// `scriptPubKey`: the script, a leaf and its control block.
const LEAVES: [(&str, &str, &str); 12] = [
    (
        "5120147c9c57132f6e7ecddba9800bb0c4449251c92a1e60371ee77557b6620f3ea3",
        "20d85a959b0290bf19bb89ed43c916be835475d013da4b362117393e25a48229b8ac",
        "c1187791b6f712a8ea41c8ecdd0ee77fab3e85263b37e1ec18a3651926b3a6cf27",
    ),
    (
        "5120e4d810fd50586274face62b8a807eb9719cef49c04177cc6b76a9a4251d5450e",
        "20b617298552a72ade070667e86ca63b8f5789a9fe8731ef91202a91c9f3459007ac",
        "c093478e9488f956df2396be2ce6c5cced75f900dfa18e7dabd2428aae78451820",
    ),
    (
        "5120712447206d7a5238acc7ff53fbe94a3b64539ad291c7cdbc490b7577e4b17df5",
        "20387671353e273264c495656e27e39ba899ea8fee3bb69fb2a680e22093447d48ac",
        "c0ee4fe085983462a184015d1f782d6a5f8b9c2b60130aff050ce221ecf3786592f224a923cd0021ab202ab139cc\
         56802ddb92dcfc172b9212261a539df79a112a",
    ),
    (
        "5120712447206d7a5238acc7ff53fbe94a3b64539ad291c7cdbc490b7577e4b17df5",
        "06424950333431",
        "faee4fe085983462a184015d1f782d6a5f8b9c2b60130aff050ce221ecf37865928ad69ec7cf41c2a4001fd1f738\
         bf1e505ce2277acdcaa63fe4765192497f47a7",
    ),
    (
        "512077e30a5522dd9f894c3f8b8bd4c4b2cf82ca7da8a3ea6a239655c39c050ab220",
        "2044b178d64c32c4a05cc4f4d1407268f764c940d20ce97abfd44db5c3592b72fdac",
        "c1f9f400803e683727b14f463836e1e78e1c64417638aa066919291a225f0e8dd82cb2b90daa543b544161530c92\
         5f285b06196940d6085ca9474d41dc3822c5cb",
    ),
    (
        "512077e30a5522dd9f894c3f8b8bd4c4b2cf82ca7da8a3ea6a239655c39c050ab220",
        "07546170726f6f74",
        "c1f9f400803e683727b14f463836e1e78e1c64417638aa066919291a225f0e8dd864512fecdb5afa04f98839b50e\
         6f0cb7b1e539bf6f205f67934083cdcc3c8d89",
    ),
    (
        "512091b64d5324723a985170e4dc5a0f84c041804f2cd12660fa5dec09fc21783605",
        "2072ea6adcf1d371dea8fba1035a09f3d24ed5a059799bae114084130ee5898e69ac",
        "c0e0dfe2300b0dd746a3f8674dfd4525623639042569d829c7f0eed9602d263e6fffe578e9ea769027e4f5a3de40\
         732f75a88a6353a09d767ddeb66accef85e553",
    ),
    (
        "512091b64d5324723a985170e4dc5a0f84c041804f2cd12660fa5dec09fc21783605",
        "202352d137f2f3ab38d1eaa976758873377fa5ebb817372c71e2c542313d4abda8ac",
        "c0e0dfe2300b0dd746a3f8674dfd4525623639042569d829c7f0eed9602d263e6f9e31407bffa15fefbf5090b149\
         d53959ecdf3f62b1246780238c24501d5ceaf62645a02e0aac1fe69d69755733a9b7621b694bb5b5cde2bbfc9406\
         6ed62b9817",
    ),
    (
        "512091b64d5324723a985170e4dc5a0f84c041804f2cd12660fa5dec09fc21783605",
        "207337c0dd4253cb86f2c43a2351aadd82cccb12a172cd120452b9bb8324f2186aac",
        "c0e0dfe2300b0dd746a3f8674dfd4525623639042569d829c7f0eed9602d263e6fba982a91d4fc552163cb1c0da0\
         3676102d5b7a014304c01f0c77b2b8e888de1c2645a02e0aac1fe69d69755733a9b7621b694bb5b5cde2bbfc9406\
         6ed62b9817",
    ),
    (
        "512075169f4001aa68f15bbed28b218df1d0a62cbbcf1188c6665110c293c907b831",
        "2071981521ad9fc9036687364118fb6ccd2035b96a423c59c5430e98310a11abe2ac",
        "c155adf4e8967fbd2e29f20ac896e60c3b0f1d5b0efa9d34941b5958c7b0a0312d3cd369a528b326bc9d2133cbd2\
         ac21451acb31681a410434672c8e34fe757e91",
    ),
    (
        "512075169f4001aa68f15bbed28b218df1d0a62cbbcf1188c6665110c293c907b831",
        "20d5094d2dbe9b76e2c245a2b89b6006888952e2faa6a149ae318d69e520617748ac",
        "c155adf4e8967fbd2e29f20ac896e60c3b0f1d5b0efa9d34941b5958c7b0a0312dd7485025fceb78b9ed667db36e\
         d8b8dc7b1f0b307ac167fa516fe4352b9f4ef7f154e8e8e17c31d3462d7132589ed29353c6fafdb884c5a6e04ea9\
         38834f0d9d",
    ),
    (
        "512075169f4001aa68f15bbed28b218df1d0a62cbbcf1188c6665110c293c907b831",
        "20c440b462ad48c7a77f94cd4532d8f2119dcebbd7c9764557e62726419b08ad4cac",
        "c155adf4e8967fbd2e29f20ac896e60c3b0f1d5b0efa9d34941b5958c7b0a0312d737ed1fe30bc42b8022d717b44\
         f0d93516617af64a64753b7a06bf16b26cd711f154e8e8e17c31d3462d7132589ed29353c6fafdb884c5a6e04ea9\
         38834f0d9d",
    ),
];

fn bytes(hex: &str) -> Vec<u8> {
    FromHex::from_hex(hex).expect("hex")
}

#[test]
fn every_input_of_the_signed_transaction() {
    let prevouts = SPENT.map(|(sats, script)| TxOut {
        value: Amount::from_sat(sats),
        script_pubkey: ScriptBuf::from_bytes(bytes(script)),
    });
    let decoded = decode(&bytes(SIGNED), &prevouts).expect("a transaction");
    for (index, input) in decoded.inputs.iter().enumerate() {
        assert_eq!(
            (input.signers().len(), &input.problems[..]),
            (1, &[][..]),
            "input {index}: {input:?}"
        );
    }
    for (index, hash_type, digest) in KEY_PATHS {
        let input = &decoded.inputs[index];
        assert_eq!(input.kind, SpendKind::TaprootKeyPath, "input {index}");
        let [StackItem {
            role: ItemRole::Signature(signature),
            ..
        }] = &input.witness[..]
        else {
            panic!("input {index}: {:?}", input.witness)
        };
        let sighash = signature.sighash.expect("the spent outputs are known");
        assert_eq!(
            (signature.hash_type, sighash.to_lower_hex_string()),
            (hash_type, digest.to_owned()),
            "input {index}"
        );
    }
    // Each digest but those of ANYONECANPAY commits to the amount of every input.
    let mut prevouts = prevouts;
    prevouts[0].value += Amount::ONE_SAT;
    let decoded = decode(&bytes(SIGNED), &prevouts).expect("a transaction");
    for (index, hash_type, _) in KEY_PATHS {
        let commits = index == 0 || hash_type & 0x80 == 0;
        let invalid = decoded.inputs[index].has_invalid_signature();
        assert_eq!(invalid, commits, "input {index}, hash type {hash_type}");
    }
}

#[test]
fn every_leaf_gives_its_output() {
    for (output, leaf, control) in
        LEAVES.map(|(output, leaf, control)| (bytes(output), bytes(leaf), bytes(control)))
    {
        let mut tx = spend(0, Sequence::MAX);
        tx.input[0].witness = Witness::from_slice(&[leaf, control.clone()]);
        let read = |output: &[u8]| {
            let output = funded(ScriptBuf::from_bytes(output.to_vec()));
            let decoded = decode(&serialize(&tx), &[output]).expect("a transaction");
            assert_eq!(decoded.inputs[0].kind, SpendKind::TaprootScriptPath);
            decoded.inputs[0].problems.clone()
        };
        let wrong = |problems: &[Problem]| {
            problems.iter().any(|problem| {
                matches!(
                    problem,
                    Problem::Commitment | Problem::Parity | Problem::ControlBlock
                )
            })
        };
        let problems = read(&output);
        assert!(!wrong(&problems), "{problems:?}");
        let version = control[0] & 0xfe;
        let unknown = problems.contains(&Problem::LeafVersion { version });
        assert_eq!(unknown, version != 0xc0, "{problems:?}");
        let mut other = output;
        other[33] ^= 1;
        assert!(wrong(&read(&other)), "another output key is accepted");
    }
}
