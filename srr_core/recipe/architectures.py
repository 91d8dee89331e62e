"""Which models the core can take, told from config.json without torch and transformers."""

from collections.abc import Mapping
from typing import Any

from srr_core.errors import RecipeError, UnsupportedModelError
from srr_core.recipe.budget import BudgetSpec
from srr_core.recipe.sizes import check_sizes
from srr_core.recipe.stored_schemes import check_quantization

TRANSFORMERS = "5.23.0"
"""The version whose classes are listed. A test compares the list with the installed one and says how to renew it."""

_NAMES = """
    AXK1ForCausalLM AXK1ForSequenceClassification AXK1ForTokenClassification AXK1Model AXK2ForCausalLM
    AXK2ForSequenceClassification AXK2ForTokenClassification AXK2Model AfmoeForCausalLM AfmoeModel AlbertForMaskedLM
    AlbertForMultipleChoice AlbertForPreTraining AlbertForQuestionAnswering AlbertForSequenceClassification
    AlbertForTokenClassification AlbertModel ApertusForCausalLM ApertusForTokenClassification ApertusModel
    ArceeForCausalLM ArceeForQuestionAnswering ArceeForSequenceClassification ArceeForTokenClassification ArceeModel
    AriaForConditionalGeneration AriaModel AriaTextForCausalLM AriaTextModel AudioFlamingo3ForConditionalGeneration
    AudioFlamingo3Model AyaVisionForConditionalGeneration AyaVisionModel BailingHybridForCausalLM BailingHybridModel
    BambaForCausalLM BambaModel BartForCausalLM BartForConditionalGeneration BartForQuestionAnswering
    BartForSequenceClassification BartModel BeamForCausalLM BeamModel BertForMaskedLM BertForMultipleChoice
    BertForNextSentencePrediction BertForPreTraining BertForQuestionAnswering BertForSequenceClassification
    BertForTokenClassification BertGenerationDecoder BertGenerationEncoder BertLMHeadModel BertModel
    BigBirdForCausalLM BigBirdForMaskedLM BigBirdForMultipleChoice BigBirdForPreTraining BigBirdForQuestionAnswering
    BigBirdForSequenceClassification BigBirdForTokenClassification BigBirdModel BigBirdPegasusForCausalLM
    BigBirdPegasusForConditionalGeneration BigBirdPegasusForQuestionAnswering
    BigBirdPegasusForSequenceClassification BigBirdPegasusModel BioGptForCausalLM BioGptForSequenceClassification
    BioGptForTokenClassification BioGptModel BitNetForCausalLM BitNetModel BlenderbotForCausalLM
    BlenderbotForConditionalGeneration BlenderbotModel BlenderbotSmallForCausalLM
    BlenderbotSmallForConditionalGeneration BlenderbotSmallModel BlipModel BloomForCausalLM
    BloomForQuestionAnswering BloomForSequenceClassification BloomForTokenClassification BloomModel BltForCausalLM
    BltModel CLIPTextModel CTRLForSequenceClassification CTRLLMHeadModel CTRLModel CamembertForCausalLM
    CamembertForMaskedLM CamembertForMultipleChoice CamembertForQuestionAnswering CamembertForSequenceClassification
    CamembertForTokenClassification CamembertModel CanineForMultipleChoice CanineForQuestionAnswering
    CanineForSequenceClassification CanineForTokenClassification CanineModel ChameleonForConditionalGeneration
    ChameleonModel CodeGenForCausalLM CodeGenModel Cohere2ForCausalLM Cohere2Model Cohere2MoeForCausalLM
    Cohere2MoeModel Cohere2VisionForConditionalGeneration Cohere2VisionModel CohereCompassForCausalLM
    CohereCompassForConditionalGeneration CohereCompassModel CohereCompassTextForSequenceClassification
    CohereCompassTextModel CohereForCausalLM CohereModel ConvBertForMaskedLM ConvBertForMultipleChoice
    ConvBertForQuestionAnswering ConvBertForSequenceClassification ConvBertForTokenClassification ConvBertModel
    Cosmos3EdgeForConditionalGeneration Cosmos3EdgeModel Cosmos3OmniForConditionalGeneration Cosmos3OmniModel
    CpmAntForCausalLM CpmAntModel CwmForCausalLM CwmModel Data2VecTextForCausalLM Data2VecTextForMaskedLM
    Data2VecTextForMultipleChoice Data2VecTextForQuestionAnswering Data2VecTextForSequenceClassification
    Data2VecTextForTokenClassification Data2VecTextModel DbrxForCausalLM DbrxModel DebertaForMaskedLM
    DebertaForQuestionAnswering DebertaForSequenceClassification DebertaForTokenClassification DebertaModel
    DebertaV2ForMaskedLM DebertaV2ForMultipleChoice DebertaV2ForQuestionAnswering DebertaV2ForSequenceClassification
    DebertaV2ForTokenClassification DebertaV2Model DeepseekOcr2ForConditionalGeneration DeepseekOcr2Model
    DeepseekV2ForCausalLM DeepseekV2ForSequenceClassification DeepseekV2Model DeepseekV32ForCausalLM
    DeepseekV32Model DeepseekV3ForCausalLM DeepseekV3ForSequenceClassification DeepseekV3ForTokenClassification
    DeepseekV3Model DeepseekV4ForCausalLM DeepseekV4Model DeepseekVLForConditionalGeneration
    DeepseekVLHybridForConditionalGeneration DeepseekVLHybridModel DeepseekVLModel DiaForConditionalGeneration
    DiaModel DiffLlamaForCausalLM DiffLlamaForQuestionAnswering DiffLlamaForSequenceClassification
    DiffLlamaForTokenClassification DiffLlamaModel DiffusionGemmaForBlockDiffusion DiffusionGemmaModel
    DistilBertForMaskedLM DistilBertForMultipleChoice DistilBertForQuestionAnswering
    DistilBertForSequenceClassification DistilBertForTokenClassification DistilBertModel DogeForCausalLM
    DogeForSequenceClassification DogeModel Dots1ForCausalLM Dots1Model Dots3NoteForCausalLM
    Dots3NoteForConditionalGeneration Dots3NoteModel Dots3NoteTextModel ElectraForCausalLM ElectraForMaskedLM
    ElectraForMultipleChoice ElectraForPreTraining ElectraForQuestionAnswering ElectraForSequenceClassification
    ElectraForTokenClassification ElectraModel Emu3ForCausalLM Emu3ForConditionalGeneration Emu3Model Emu3TextModel
    EncoderDecoderModel Ernie4_5ForCausalLM Ernie4_5Model Ernie4_5_MoeForCausalLM Ernie4_5_MoeModel
    Ernie4_5_VLMoeForConditionalGeneration Ernie4_5_VLMoeModel ErnieForCausalLM ErnieForMaskedLM
    ErnieForMultipleChoice ErnieForNextSentencePrediction ErnieForPreTraining ErnieForQuestionAnswering
    ErnieForSequenceClassification ErnieForTokenClassification ErnieModel EsmForMaskedLM
    EsmForSequenceClassification EsmForTokenClassification EsmModel EsmcForMaskedLM EsmcForSequenceClassification
    EsmcForTokenClassification EsmcModel EuroBertForMaskedLM EuroBertForSequenceClassification
    EuroBertForTokenClassification EuroBertModel EvollaForProteinText2Text EvollaModel Exaone4ForCausalLM
    Exaone4ForQuestionAnswering Exaone4ForSequenceClassification Exaone4ForTokenClassification Exaone4Model
    Exaone4_5_ForConditionalGeneration Exaone4_5_Model ExaoneMoeForCausalLM ExaoneMoeModel FNetForMaskedLM
    FNetForMultipleChoice FNetForNextSentencePrediction FNetForPreTraining FNetForQuestionAnswering
    FNetForSequenceClassification FNetForTokenClassification FNetModel FSMTForConditionalGeneration FSMTModel
    FalconForCausalLM FalconForQuestionAnswering FalconForSequenceClassification FalconForTokenClassification
    FalconH1ForCausalLM FalconH1Model FalconMambaForCausalLM FalconMambaModel FalconModel
    FastVlmForConditionalGeneration FastVlmModel FlaubertForMultipleChoice FlaubertForQuestionAnsweringSimple
    FlaubertForSequenceClassification FlaubertForTokenClassification FlaubertModel FlaubertWithLMHeadModel
    FlexOlmoForCausalLM FlexOlmoModel FlintForCausalLM FlintModel Florence2ForConditionalGeneration Florence2Model
    FunAsrNanoForConditionalGeneration FunAsrNanoModel FunnelBaseModel FunnelForMaskedLM FunnelForMultipleChoice
    FunnelForPreTraining FunnelForQuestionAnswering FunnelForSequenceClassification FunnelForTokenClassification
    FunnelModel FuyuForCausalLM FuyuModel GPT2ForQuestionAnswering GPT2ForSequenceClassification
    GPT2ForTokenClassification GPT2LMHeadModel GPT2Model GPTBigCodeForCausalLM GPTBigCodeForSequenceClassification
    GPTBigCodeForTokenClassification GPTBigCodeModel GPTJForCausalLM GPTJForQuestionAnswering
    GPTJForSequenceClassification GPTJModel GPTNeoForCausalLM GPTNeoForQuestionAnswering
    GPTNeoForSequenceClassification GPTNeoForTokenClassification GPTNeoModel GPTNeoXForCausalLM
    GPTNeoXForQuestionAnswering GPTNeoXForSequenceClassification GPTNeoXForTokenClassification
    GPTNeoXJapaneseForCausalLM GPTNeoXJapaneseModel GPTNeoXModel Gemma2ForCausalLM Gemma2ForSequenceClassification
    Gemma2ForTokenClassification Gemma2Model Gemma3ForCausalLM Gemma3ForConditionalGeneration
    Gemma3ForSequenceClassification Gemma3Model Gemma3TextForSequenceClassification Gemma3TextModel
    Gemma3nForCausalLM Gemma3nForConditionalGeneration Gemma3nModel Gemma3nTextModel Gemma4AssistantForCausalLM
    Gemma4ForCausalLM Gemma4ForConditionalGeneration Gemma4Model Gemma4TextModel Gemma4UnifiedAssistantForCausalLM
    Gemma4UnifiedForCausalLM Gemma4UnifiedForConditionalGeneration Gemma4UnifiedModel Gemma4UnifiedTextModel
    GemmaForCausalLM GemmaForSequenceClassification GemmaForTokenClassification GemmaModel GitForCausalLM GitModel
    Glm46VForConditionalGeneration Glm46VModel Glm4ForCausalLM Glm4ForSequenceClassification
    Glm4ForTokenClassification Glm4Model Glm4MoeForCausalLM Glm4MoeLiteForCausalLM Glm4MoeLiteModel Glm4MoeModel
    Glm4vForConditionalGeneration Glm4vModel Glm4vMoeForConditionalGeneration Glm4vMoeModel
    Glm5NextForConditionalGeneration Glm5NextModel GlmAsrForConditionalGeneration GlmAsrModel GlmForCausalLM
    GlmForSequenceClassification GlmForTokenClassification GlmModel GlmMoeDsaForCausalLM GlmMoeDsaModel
    GlmOcrForConditionalGeneration GlmOcrModel GotOcr2ForConditionalGeneration GotOcr2Model GptOssForCausalLM
    GptOssForSequenceClassification GptOssForTokenClassification GptOssModel Granite4VisionForConditionalGeneration
    Granite4VisionModel GraniteDoclingForConditionalGeneration GraniteDoclingModel GraniteForCausalLM GraniteModel
    GraniteMoeForCausalLM GraniteMoeHybridForCausalLM GraniteMoeHybridModel GraniteMoeModel GraniteMoeSWAForCausalLM
    GraniteMoeSWAModel GraniteMoeSharedForCausalLM GraniteMoeSharedModel GraniteSWAForCausalLM GraniteSWAModel
    GraniteSpeechForConditionalGeneration GraniteSpeechModel GraniteSpeechPlusForConditionalGeneration
    GraniteSpeechPlusModel GteForMaskedLM GteForSequenceClassification GteForTokenClassification GteModel
    HYV3ForCausalLM HYV3Model HYV4ForCausalLM HYV4Model HeliumForCausalLM HeliumForSequenceClassification
    HeliumForTokenClassification HeliumModel HrmTextForCausalLM HrmTextModel HunYuanDenseV1ForCausalLM
    HunYuanDenseV1ForSequenceClassification HunYuanDenseV1Model HunYuanMoEV1ForCausalLM
    HunYuanMoEV1ForSequenceClassification HunYuanMoEV1Model HunYuanVLForConditionalGeneration HunYuanVLModel
    HyperCLOVAXForCausalLM HyperCLOVAXModel HyperCLOVAXVisionV2ForConditionalGeneration HyperCLOVAXVisionV2Model
    IBertForMaskedLM IBertForMultipleChoice IBertForQuestionAnswering IBertForSequenceClassification
    IBertForTokenClassification IBertModel Idefics2ForConditionalGeneration Idefics2Model
    Idefics3ForConditionalGeneration Idefics3Model IdeficsForVisionText2Text IdeficsModel Inkling2ForCausalLM
    Inkling2ForConditionalGeneration Inkling2Model Inkling2TextModel InklingForCausalLM
    InklingForConditionalGeneration InklingModel InklingTextModel InternVLForConditionalGeneration InternVLModel
    Jais2ForCausalLM Jais2Model JambaForCausalLM JambaForSequenceClassification JambaModel
    JanusForConditionalGeneration JanusModel JetMoeForCausalLM JetMoeForSequenceClassification JetMoeModel
    JinaEmbeddingsV3ForMaskedLM JinaEmbeddingsV3ForQuestionAnswering JinaEmbeddingsV3ForSequenceClassification
    JinaEmbeddingsV3ForTokenClassification JinaEmbeddingsV3Model KimiLinearForCausalLM KimiLinearModel
    Kimi_K25ForConditionalGeneration Kimi_K25Model Kolibri1ForCausalLM Kolibri1Model
    Kosmos2_5ForConditionalGeneration Kosmos2_5Model KyutaiSpeechToTextForConditionalGeneration
    KyutaiSpeechToTextModel LEDForConditionalGeneration LEDForQuestionAnswering LEDModel LagunaForCausalLM
    LagunaModel LayoutLMForMaskedLM LayoutLMForSequenceClassification LayoutLMForTokenClassification LayoutLMModel
    LayoutLMv2ForQuestionAnswering LayoutLMv2ForSequenceClassification LayoutLMv2ForTokenClassification
    LayoutLMv2Model LayoutLMv3ForQuestionAnswering LayoutLMv3ForSequenceClassification
    LayoutLMv3ForTokenClassification LayoutLMv3Model Lfm2ForCausalLM Lfm2Model Lfm2MoeForCausalLM Lfm2MoeModel
    Lfm2VlForConditionalGeneration Lfm2VlModel Lfm3ForCausalLM Lfm3Model Lfm3VlForConditionalGeneration Lfm3VlModel
    LightOnOcrForConditionalGeneration LightOnOcrModel LiltForQuestionAnswering LiltForSequenceClassification
    LiltForTokenClassification LiltModel Llama4ForCausalLM Llama4ForConditionalGeneration Llama4TextModel
    LlamaForCausalLM LlamaForQuestionAnswering LlamaForSequenceClassification LlamaForTokenClassification LlamaModel
    LlavaForConditionalGeneration LlavaModel LlavaNextForConditionalGeneration LlavaNextModel
    LlavaNextVideoForConditionalGeneration LlavaNextVideoModel LlavaOnevisionForConditionalGeneration
    LlavaOnevisionModel LongT5ForConditionalGeneration LongT5Model LongcatFlashForCausalLM LongcatFlashModel
    LongformerForMaskedLM LongformerForMultipleChoice LongformerForQuestionAnswering
    LongformerForSequenceClassification LongformerForTokenClassification LongformerModel LukeForMaskedLM
    LukeForMultipleChoice LukeForQuestionAnswering LukeForSequenceClassification LukeForTokenClassification
    LukeModel M2M100ForConditionalGeneration M2M100Model MBartForCausalLM MBartForConditionalGeneration
    MBartForQuestionAnswering MBartForSequenceClassification MBartModel MPNetForMaskedLM MPNetForMultipleChoice
    MPNetForQuestionAnswering MPNetForSequenceClassification MPNetForTokenClassification MPNetModel MT5EncoderModel
    MT5ForConditionalGeneration MT5ForQuestionAnswering MT5ForSequenceClassification MT5ForTokenClassification
    MT5Model Mamba2ForCausalLM Mamba2Model MambaForCausalLM MambaModel MarianForCausalLM MarianMTModel MarianModel
    MarkupLMForQuestionAnswering MarkupLMForSequenceClassification MarkupLMForTokenClassification MarkupLMModel
    MegatronBertForCausalLM MegatronBertForMaskedLM MegatronBertForMultipleChoice
    MegatronBertForNextSentencePrediction MegatronBertForPreTraining MegatronBertForQuestionAnswering
    MegatronBertForSequenceClassification MegatronBertForTokenClassification MegatronBertModel MellumForCausalLM
    MellumModel MiMoV2FlashForCausalLM MiMoV2FlashModel MiniCPM3ForCausalLM MiniCPM3ForSequenceClassification
    MiniCPM3Model MiniCPMOcrForConditionalGeneration MiniCPMOcrModel MiniCPMV4_6ForConditionalGeneration
    MiniCPMV4_6Model MiniCPMV4_7ForConditionalGeneration MiniCPMV4_7Model MiniMaxForCausalLM
    MiniMaxForQuestionAnswering MiniMaxForSequenceClassification MiniMaxForTokenClassification MiniMaxM2ForCausalLM
    MiniMaxM2Model MiniMaxM3SparseForConditionalGeneration MiniMaxM3VLForCausalLM MiniMaxM3VLModel
    MiniMaxM3VLTextModel MiniMaxModel Ministral3ForCausalLM Ministral3ForQuestionAnswering
    Ministral3ForSequenceClassification Ministral3ForTokenClassification Ministral3Model MinistralForCausalLM
    MinistralForQuestionAnswering MinistralForSequenceClassification MinistralForTokenClassification MinistralModel
    Mistral3ForConditionalGeneration Mistral3Model Mistral4ForCausalLM Mistral4ForSequenceClassification
    Mistral4ForTokenClassification Mistral4Model MistralForCausalLM MistralForQuestionAnswering
    MistralForSequenceClassification MistralForTokenClassification MistralLarge4ForConditionalGeneration
    MistralLarge4Model MistralModel MixtralForCausalLM MixtralForQuestionAnswering MixtralForSequenceClassification
    MixtralForTokenClassification MixtralModel MllamaForCausalLM MllamaForConditionalGeneration MllamaModel
    MllamaTextModel MobileBertForMaskedLM MobileBertForMultipleChoice MobileBertForNextSentencePrediction
    MobileBertForPreTraining MobileBertForQuestionAnswering MobileBertForSequenceClassification
    MobileBertForTokenClassification MobileBertModel ModernBertDecoderForCausalLM
    ModernBertDecoderForSequenceClassification ModernBertDecoderModel ModernBertForMaskedLM
    ModernBertForMultipleChoice ModernBertForQuestionAnswering ModernBertForSequenceClassification
    ModernBertForTokenClassification ModernBertModel ModernVBertForMaskedLM ModernVBertForSequenceClassification
    ModernVBertForTokenClassification ModernVBertModel Molmo2ForConditionalGeneration Molmo2Model Molmo2TextModel
    MoshiForCausalLM MoshiModel MossTranscribeDiarizeForConditionalGeneration MossTranscribeDiarizeModel
    MptForCausalLM MptForQuestionAnswering MptForSequenceClassification MptForTokenClassification MptModel
    MraForMaskedLM MraForMultipleChoice MraForQuestionAnswering MraForSequenceClassification
    MraForTokenClassification MraModel MuseGlimmerForConditionalGeneration MuseGlimmerModel
    MuseSparkForConditionalGeneration MuseSparkModel MusicFlamingoForConditionalGeneration MusicFlamingoModel
    MusicgenForCausalLM MusicgenMelodyForCausalLM MusicgenMelodyModel MusicgenModel MvpForCausalLM
    MvpForConditionalGeneration MvpForQuestionAnswering MvpForSequenceClassification MvpModel NanoChatForCausalLM
    NanoChatModel Nemotron3_5TranscribeForConditionalGeneration Nemotron3_5TranscribeModel NemotronForCausalLM
    NemotronForQuestionAnswering NemotronForSequenceClassification NemotronForTokenClassification
    NemotronHForCausalLM NemotronHModel NemotronH_Omni_Reasoning_V3 NemotronModel NeoMMEForMaskedLM NeoMMEModel
    NllbMoeForConditionalGeneration NllbMoeModel NomicBertForMaskedLM NomicBertForSequenceClassification
    NomicBertForTokenClassification NomicBertModel NystromformerForMaskedLM NystromformerForMultipleChoice
    NystromformerForQuestionAnswering NystromformerForSequenceClassification NystromformerForTokenClassification
    NystromformerModel OPTForCausalLM OPTForQuestionAnswering OPTForSequenceClassification OPTModel Olmo2ForCausalLM
    Olmo2ForSequenceClassification Olmo2Model Olmo3ForCausalLM Olmo3ForSequenceClassification Olmo3Model
    OlmoForCausalLM OlmoForSequenceClassification OlmoHybridForCausalLM OlmoHybridModel OlmoModel OlmoeForCausalLM
    OlmoeModel OpenAIGPTForSequenceClassification OpenAIGPTLMHeadModel OpenAIGPTModel Ovis2ForConditionalGeneration
    Ovis2Model PLBartForCausalLM PLBartForConditionalGeneration PLBartForSequenceClassification PLBartModel
    PaddleOCRVLForConditionalGeneration PaddleOCRVLModel PaliGemmaForConditionalGeneration PaliGemmaModel
    PegasusForCausalLM PegasusForConditionalGeneration PegasusModel PegasusXForConditionalGeneration PegasusXModel
    PerceiverForMaskedLM PerceiverForSequenceClassification PerceptionLMForConditionalGeneration PerceptionLMModel
    PersimmonForCausalLM PersimmonForSequenceClassification PersimmonForTokenClassification PersimmonModel
    Phi3ForCausalLM Phi3ForSequenceClassification Phi3ForTokenClassification Phi3Model Phi4MultimodalForCausalLM
    Phi4MultimodalModel PhiForCausalLM PhiForSequenceClassification PhiForTokenClassification PhiModel
    PhimoeForCausalLM PhimoeForSequenceClassification PhimoeModel Pop2PianoForConditionalGeneration
    ProphetNetForCausalLM ProphetNetForConditionalGeneration ProphetNetModel QianfanOCRForConditionalGeneration
    QianfanOCRModel Qwen2AudioForConditionalGeneration Qwen2AudioModel Qwen2ForCausalLM Qwen2ForQuestionAnswering
    Qwen2ForSequenceClassification Qwen2ForTokenClassification Qwen2Model Qwen2MoeForCausalLM
    Qwen2MoeForQuestionAnswering Qwen2MoeForSequenceClassification Qwen2MoeForTokenClassification Qwen2MoeModel
    Qwen2VLForConditionalGeneration Qwen2VLModel Qwen2_5OmniThinkerForConditionalGeneration Qwen2_5OmniThinkerModel
    Qwen2_5_VLForConditionalGeneration Qwen2_5_VLModel Qwen3ASRForConditionalGeneration
    Qwen3ASRForTokenClassification Qwen3ASRModel Qwen3ForCausalLM Qwen3ForQuestionAnswering
    Qwen3ForSequenceClassification Qwen3ForTokenClassification Qwen3Model Qwen3MoeForCausalLM
    Qwen3MoeForQuestionAnswering Qwen3MoeForSequenceClassification Qwen3MoeForTokenClassification Qwen3MoeModel
    Qwen3NextForCausalLM Qwen3NextForQuestionAnswering Qwen3NextForSequenceClassification
    Qwen3NextForTokenClassification Qwen3NextModel Qwen3OmniMoeThinkerForConditionalGeneration
    Qwen3OmniMoeThinkerModel Qwen3VLForConditionalGeneration Qwen3VLModel Qwen3VLMoeForConditionalGeneration
    Qwen3VLMoeModel Qwen3_5ForCausalLM Qwen3_5ForConditionalGeneration Qwen3_5ForSequenceClassification
    Qwen3_5ForTokenClassification Qwen3_5Model Qwen3_5MoeForCausalLM Qwen3_5MoeForConditionalGeneration
    Qwen3_5MoeModel Qwen3_5MoeTextModel Qwen3_5TextForSequenceClassification Qwen3_5TextModel Qwen4ExpForCausalLM
    Qwen4ExpForConditionalGeneration Qwen4ExpModel Qwen4ExpTextModel RecurrentGemmaForCausalLM RecurrentGemmaModel
    ReformerForMaskedLM ReformerForQuestionAnswering ReformerForSequenceClassification ReformerModel
    ReformerModelWithLMHead RemBertForCausalLM RemBertForMaskedLM RemBertForMultipleChoice
    RemBertForQuestionAnswering RemBertForSequenceClassification RemBertForTokenClassification RemBertModel
    RoCBertForCausalLM RoCBertForMaskedLM RoCBertForMultipleChoice RoCBertForPreTraining RoCBertForQuestionAnswering
    RoCBertForSequenceClassification RoCBertForTokenClassification RoCBertModel RoFormerForCausalLM
    RoFormerForMaskedLM RoFormerForMultipleChoice RoFormerForQuestionAnswering RoFormerForSequenceClassification
    RoFormerForTokenClassification RoFormerModel RobertaForCausalLM RobertaForMaskedLM RobertaForMultipleChoice
    RobertaForQuestionAnswering RobertaForSequenceClassification RobertaForTokenClassification RobertaModel
    RobertaPreLayerNormForCausalLM RobertaPreLayerNormForMaskedLM RobertaPreLayerNormForMultipleChoice
    RobertaPreLayerNormForQuestionAnswering RobertaPreLayerNormForSequenceClassification
    RobertaPreLayerNormForTokenClassification RobertaPreLayerNormModel RwkvForCausalLM RwkvModel
    SeamlessM4TForTextToText SeamlessM4TModel SeamlessM4Tv2ForTextToText SeamlessM4Tv2Model SeedOssForCausalLM
    SeedOssForQuestionAnswering SeedOssForSequenceClassification SeedOssForTokenClassification SeedOssModel
    SmolLM3ForCausalLM SmolLM3ForQuestionAnswering SmolLM3ForSequenceClassification SmolLM3ForTokenClassification
    SmolLM3Model SmolVLMForConditionalGeneration SmolVLMModel SolarOpenForCausalLM SolarOpenModel
    SqueezeBertForMaskedLM SqueezeBertForMultipleChoice SqueezeBertForQuestionAnswering
    SqueezeBertForSequenceClassification SqueezeBertForTokenClassification SqueezeBertModel StableLmForCausalLM
    StableLmForSequenceClassification StableLmForTokenClassification StableLmModel Starcoder2ForCausalLM
    Starcoder2ForSequenceClassification Starcoder2ForTokenClassification Starcoder2Model
    Step3p7ForConditionalGeneration Step3p7Model SwitchTransformersForConditionalGeneration SwitchTransformersModel
    T5EncoderModel T5ForConditionalGeneration T5ForQuestionAnswering T5ForSequenceClassification
    T5ForTokenClassification T5Gemma2ForConditionalGeneration T5Gemma2ForSequenceClassification
    T5Gemma2ForTokenClassification T5Gemma2Model T5GemmaEncoderModel T5GemmaForConditionalGeneration
    T5GemmaForSequenceClassification T5GemmaForTokenClassification T5GemmaModel T5Model TapasForMaskedLM
    TapasForSequenceClassification TapasModel Tipsv2TextModel TrOCRForCausalLM UMT5EncoderModel
    UMT5ForConditionalGeneration UMT5ForQuestionAnswering UMT5ForSequenceClassification UMT5ForTokenClassification
    UMT5Model UdopForConditionalGeneration UdopModel UltraVBertForMaskedLM UltraVBertForSequenceClassification
    UltraVBertForTokenClassification UltraVBertModel UltrabertForMaskedLM UltrabertForQuestionAnswering
    UltrabertForSequenceClassification UltrabertForTokenClassification UltrabertModel
    UnlimitedOcrForConditionalGeneration UnlimitedOcrModel VaultGemmaForCausalLM VaultGemmaModel
    VibeVoiceAsrForConditionalGeneration VibeVoiceAsrModel VibeVoiceForConditionalGeneration
    VideoLlama3ForConditionalGeneration VideoLlama3Model VideoLlavaForConditionalGeneration VideoLlavaModel
    VipLlavaForConditionalGeneration VipLlavaModel VoxtralForConditionalGeneration VoxtralModel
    VoxtralRealtimeForConditionalGeneration VoxtralRealtimeModel WhisperForCausalLM XGLMForCausalLM XGLMModel
    XLMForMultipleChoice XLMForQuestionAnsweringSimple XLMForSequenceClassification XLMForTokenClassification
    XLMModel XLMRobertaForCausalLM XLMRobertaForMaskedLM XLMRobertaForMultipleChoice XLMRobertaForQuestionAnswering
    XLMRobertaForSequenceClassification XLMRobertaForTokenClassification XLMRobertaModel XLMRobertaXLForCausalLM
    XLMRobertaXLForMaskedLM XLMRobertaXLForMultipleChoice XLMRobertaXLForQuestionAnswering
    XLMRobertaXLForSequenceClassification XLMRobertaXLForTokenClassification XLMRobertaXLModel XLMWithLMHeadModel
    XLNetForMultipleChoice XLNetForQuestionAnsweringSimple XLNetForSequenceClassification
    XLNetForTokenClassification XLNetLMHeadModel XLNetModel XmodForCausalLM XmodForMaskedLM XmodForMultipleChoice
    XmodForQuestionAnswering XmodForSequenceClassification XmodForTokenClassification XmodModel YosoForMaskedLM
    YosoForMultipleChoice YosoForQuestionAnswering YosoForSequenceClassification YosoForTokenClassification
    YosoModel YoutuForCausalLM YoutuModel Zamba2ForCausalLM Zamba2ForSequenceClassification Zamba2Model
    ZambaForCausalLM ZambaForSequenceClassification ZambaModel ZayaForCausalLM ZayaModel xLSTMForCausalLM xLSTMModel
"""
ARCHITECTURES = frozenset(_NAMES.split())
"""Classes of stock transformers that read text and ask for nothing else first. Being listed is no promise: the core
builds the model."""

_IN_HALVES = """
    BartForConditionalGeneration BartForQuestionAnswering BartForSequenceClassification BartModel
    BigBirdPegasusForConditionalGeneration BigBirdPegasusForQuestionAnswering
    BigBirdPegasusForSequenceClassification BigBirdPegasusModel BlenderbotForConditionalGeneration BlenderbotModel
    BlenderbotSmallForConditionalGeneration BlenderbotSmallModel DiaForConditionalGeneration DiaModel
    DiffusionGemmaForBlockDiffusion DiffusionGemmaModel EncoderDecoderModel FSMTForConditionalGeneration FSMTModel
    Florence2ForConditionalGeneration Florence2Model LEDForConditionalGeneration LEDForQuestionAnswering LEDModel
    LongT5ForConditionalGeneration LongT5Model M2M100ForConditionalGeneration M2M100Model
    MBartForConditionalGeneration MBartForQuestionAnswering MBartForSequenceClassification MBartModel
    MT5ForConditionalGeneration MT5ForQuestionAnswering MT5ForSequenceClassification MT5Model MarianMTModel
    MarianModel MvpForConditionalGeneration MvpForQuestionAnswering MvpForSequenceClassification MvpModel
    NllbMoeForConditionalGeneration NllbMoeModel PLBartForConditionalGeneration PLBartForSequenceClassification
    PLBartModel PegasusForConditionalGeneration PegasusModel PegasusXForConditionalGeneration PegasusXModel
    Pop2PianoForConditionalGeneration ProphetNetForConditionalGeneration ProphetNetModel SeamlessM4TForTextToText
    SeamlessM4TModel SeamlessM4Tv2ForTextToText SeamlessM4Tv2Model SwitchTransformersForConditionalGeneration
    SwitchTransformersModel T5ForConditionalGeneration T5ForQuestionAnswering T5ForSequenceClassification
    T5Gemma2ForConditionalGeneration T5Gemma2ForSequenceClassification T5Gemma2ForTokenClassification T5Gemma2Model
    T5GemmaForConditionalGeneration T5GemmaForSequenceClassification T5GemmaForTokenClassification T5GemmaModel
    T5Model UMT5ForConditionalGeneration UMT5ForQuestionAnswering UMT5ForSequenceClassification UMT5Model
    UdopForConditionalGeneration UdopModel
"""
ENCODER_DECODERS = frozenset(_IN_HALVES.split())
"""Those that read one text and predict another, where their configuration says that it is of such a model."""

_NOT_RUN = """
    DiffusionGemmaForBlockDiffusion DiffusionGemmaModel HrmTextForCausalLM HrmTextModel IBertForMaskedLM
    IBertForMultipleChoice IBertForQuestionAnswering IBertForSequenceClassification IBertForTokenClassification
    IBertModel ProphetNetForCausalLM ProphetNetForConditionalGeneration ProphetNetModel ReformerForMaskedLM
    ReformerForQuestionAnswering ReformerForSequenceClassification ReformerModel ReformerModelWithLMHead
    SqueezeBertForMaskedLM SqueezeBertForMultipleChoice SqueezeBertForQuestionAnswering
    SqueezeBertForSequenceClassification SqueezeBertForTokenClassification SqueezeBertModel xLSTMForCausalLM
    xLSTMModel
"""
NOT_RUN = frozenset(_NOT_RUN.split())
"""Those whose blocks are of a kind that the core does not compress, whatever the sizes; the census found them."""

_TRANSPOSED = """
    GPT2ForQuestionAnswering GPT2ForSequenceClassification GPT2ForTokenClassification GPT2LMHeadModel GPT2Model
    OpenAIGPTForSequenceClassification OpenAIGPTLMHeadModel OpenAIGPTModel
"""
TRANSPOSED = frozenset(_TRANSPOSED.split())
"""Those whose layers multiply with weights that are stored transposed, which packed stock formats cannot hold."""

PREDICTORS = ("ForCausalLM", "LMHeadModel", "ForMaskedLM")
"""Endings of the names of classes with a head over the vocabulary."""
WINDOW_FIELDS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_decoder_position_embeddings")
"""Names of the longest window in configurations; the last two are MPT's and LED's."""


def check_config(config: Mapping[str, Any] | None, *, to_compress: bool = True) -> None:
    """Refuse what the core would refuse, as far as a configuration tells it without transformers.

    Args:
        to_compress: False for a model that is to be measured only.
    Raises:
        UnsupportedModelError: the model is quantized already, of a class that is not listed, or gives sizes that no
            model has.
    """
    name = class_name(config)
    if config is None or not name:
        raise UnsupportedModelError(
            "config.json names no architecture, so the model class is unknown; push a config.json that save_pretrained "
            "wrote"
        )
    check_sizes(config)
    check_quantization(config)
    if name not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"{name} is not among the classes of transformers {TRANSFORMERS} that can be compressed: those that read "
            "text and ask for no image or sound first. Choose a model with stacks of transformer blocks that reads "
            "text, such as Llama, Qwen, Mistral, Gemma, BERT or T5"
        )
    if to_compress and name in NOT_RUN:
        raise UnsupportedModelError(
            f"{name} cannot be compressed: its blocks cannot be run one at a time, or hold no Linear layers. Choose a "
            "model with stacks of transformer blocks, such as Llama, Qwen, Mistral, Gemma, BERT or T5"
        )


def class_name(config: Mapping[str, Any] | None) -> str:
    """Return the class that a config.json names, or nothing."""
    names = (config or {}).get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def is_encoder_decoder(config: Mapping[str, Any] | None) -> bool:
    """Whether a config.json is of a model that reads one text and predicts another."""
    return class_name(config) in ENCODER_DECODERS and bool((config or {}).get("is_encoder_decoder", True))


def require_spendable(budget: BudgetSpec | None, name: str, *, is_encoder_decoder: bool) -> None:
    """Check that a budget can be spent on a class.

    Args:
        name: Of the class.
        is_encoder_decoder: Whether it reads one text and predicts another.
    Raises:
        RecipeError: what a layer does to the prediction is not measured in such a model, or there is none.
    """
    if budget is None:
        return
    if is_encoder_decoder:
        raise RecipeError(
            f"{name} is an encoder-decoder; what a layer of its encoder does to the predictions is not measured, so a "
            "budget cannot be spent on it: give one quantizer for all layers"
        )
    if budget.target_kl is not None and not name.endswith(PREDICTORS):
        raise RecipeError(
            f"{name} has no head that predicts tokens, so there is no divergence to aim at; give target_bits or "
            "target_size_bytes"
        )
